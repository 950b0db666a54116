//! One token as one operation, which is what `step` does, and as separate ones.
//!
//! `cargo bench --workspace --bench decode`, on GPUs with `--features wgpu` or `cuda`. The bytes are those of the weights that
//! a token must read.
#![allow(missing_docs, clippy::unwrap_used)]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Int, Tensor};
use divan::Bencher;
use divan::counter::BytesCount;
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{NoHook, Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;

const ON_CPU: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];
#[cfg(feature = "wgpu")]
const ON_WGPU: [Precision; 2] = [Precision::F32, Precision::F16];
#[cfg(feature = "cuda")]
const ON_CUDA: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

fn main() {
    divan::main();
}

/// Small random weights: the orthogonal start would take longer than the bench.
struct Randomise;

impl<B: Backend> ModuleMapper<B> for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let weights = Tensor::random(param.lazy_shape(), Distribution::Normal(0.0, 0.02), &param.lazy_device());
        Param::initialized(param.id, weights)
    }
}

/// The 169M model's blocks with a small vocabulary.
fn decode<B: RwkvBackend>(bencher: Bencher, precision: Precision, at_once: bool) {
    let (config, device) = (RwkvConfig::new(4096, 12, 768), B::Device::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&Rwkv::<B>::new(&config, 0, &device).map(&mut Randomise), &path).unwrap();
    let model: Rwkv<B> = checkpoint::load_in(&path, precision, &device).unwrap();
    let token = Tensor::<B, 1, Int>::from_data([1], &device);
    let (_, state) = model.step(token.clone(), model.zero_state(1));
    let weights = config.num_params() - config.vocab_size * config.n_embd;
    let bytes = match precision {
        Precision::F32 => 4 * weights,
        Precision::F16 | Precision::Bf16 | Precision::Bf16Products => 2 * weights,
        Precision::Int8 => weights,
    };
    B::sync(&device).unwrap();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let after = match at_once {
            true => model.step(token.clone(), state.clone()),
            false => model.step_hooked(token.clone(), state.clone(), &mut NoHook),
        };
        B::sync(&device).unwrap();
        after
    });
}

macro_rules! on {
    ($feature:literal, $name:ident, $backend:ty, $precisions:ident) => {
        #[cfg(feature = $feature)]
        mod $name {
            use super::*;
            #[divan::bench(args = $precisions, max_time = 5)]
            fn at_once(bencher: Bencher, precision: Precision) {
                decode::<$backend>(bencher, precision, true);
            }
            #[divan::bench(args = $precisions, max_time = 5)]
            fn apart(bencher: Bencher, precision: Precision) {
                decode::<$backend>(bencher, precision, false);
            }
        }
    };
}

on!("flex", flex, burn::backend::Flex, ON_CPU);
on!("ndarray", ndarray, burn::backend::NdArray<f32>, ON_CPU);
on!("wgpu", wgpu, burn::backend::Wgpu, ON_WGPU);
on!("cuda", cuda, burn::backend::Cuda, ON_CUDA);
