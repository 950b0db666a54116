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

/// Set for the process that loads: the file and the precision.
const LOAD: [&str; 2] = ["RWKV_TEST_LOAD_FILE", "RWKV_TEST_LOAD_PRECISION"];

/// In a process of its own, because memory that a program freed is not all given back.
#[test]
fn loading_takes_the_weights_and_little_more() {
    if let [Some(file), Some(precision)] = LOAD.map(std::env::var_os) {
        let precision = if precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
        let before = status("VmRSS:");
        let checkpoint = Checkpoint::open(file.as_ref()).expect("it was just written");
        let model = checkpoint.model_in::<Flex>(precision, &Default::default()).expect("it fits");
        println!("held {}", status("VmHWM:") - before);
        return drop(model);
    }

    // 2 × 25 MB of embeddings and head, in which one tensor's bytes would show, and 8 MB of layers; and 24 layers of 3.4 MB
    // each, whose small tensors lie between the large ones: the system maps up to 2 MiB of the file around each.
    for config in [RwkvConfig::new(16_384, 1, 384), RwkvConfig::new(256, 24, 256)] {
        check(&config);
    }
}

fn check(config: &RwkvConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("model.safetensors");
    let model = Rwkv::<Flex>::new(config, 0, &Default::default()).map(&mut Randomise);
    save(&model, &file).expect("the folder can be written");
    for (precision, bytes) in [("f32", 4 * config.num_params()), ("bf16", 2 * config.num_params())] {
        let child = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "loading_takes_the_weights_and_little_more", "--nocapture"])
            .envs(LOAD.into_iter().zip([file.as_os_str(), precision.as_ref()]))
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let held = said.lines().find_map(|line| line.split_once("held ")?.1.parse::<usize>().ok());
        let held = held.unwrap_or_else(|| panic!("{said}\n{}", String::from_utf8_lossy(&child.stderr)));
        let share = held as f64 / bytes as f64;
        println!("{} layers, {precision}: {held} bytes for {bytes} of weights, {share:.3}", config.n_layer);
        assert!(share >= 0.9, "{held} bytes cannot hold {bytes}: nothing was measured");
        assert!(share <= 1.15, "{held} bytes for {bytes} of weights");
    }
}
