//! What a process holds in memory while it loads a model to run: the weights, and little more. The system counts, and it
//! counts the pages of mapped files too, so this is a program of its own with one test.
#![cfg(all(feature = "flex", target_os = "linux"))]

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use rwkv_core::checkpoint::{Checkpoint, save};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{Precision, Rwkv};

/// Random weights: the orthogonal start of large matrices takes minutes.
struct Randomise;

impl<B: Backend> ModuleMapper<B> for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let weights = Tensor::random(param.lazy_shape(), Distribution::Normal(0.0, 0.02), &param.lazy_device());
        Param::initialized(param.id, weights)
    }
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with(key)).expect("every kernel writes this line");
    let kilobytes = line.split_whitespace().nth(1).expect("a number follows");
    1024 * kilobytes.parse::<usize>().expect("it is a number")
}

#[test]
fn loading_takes_the_weights_and_little_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("model.safetensors");
    // 2 × 25 MB of embeddings and head, in which one tensor's bytes would show, and 11 MB of layers.
    let config = RwkvConfig::new(1, 384, 16_384);
    let bytes = 4 * config.num_params();
    let model = Rwkv::<Flex>::new(&config, 0, &Default::default()).map(&mut Randomise);
    save(&model, &file).expect("the folder can be written");
    drop(model);

    for (precision, share) in [(Precision::F32, 1.0), (Precision::Bf16, 0.5)] {
        // Makes the highest value so far the present one.
        std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own counter");
        let before = status("VmRSS:");
        let checkpoint = Checkpoint::open(&file).expect("it was just written");
        let model = checkpoint.model_in::<Flex>(precision, &Default::default()).expect("it fits");
        let held = status("VmHWM:").saturating_sub(before);
        let weights = share * bytes as f64;
        println!("{precision:?}: {held} bytes for {weights} of weights, {:.3}", held as f64 / weights);
        assert!(held as f64 >= 0.9 * weights, "{held} bytes cannot hold {weights}: nothing was measured");
        assert!(held as f64 <= 1.15 * weights, "{held} bytes for {weights} of weights");
        drop(model);
    }
}
