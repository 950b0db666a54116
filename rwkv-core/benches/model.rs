//! The whole model, per backend: one recurrent step, and a forward pass over a sequence.
//!
//! `cargo bench -p rwkv-core --bench model --features ndarray`. For a step the bytes are those of the weights that it
//! must read, `4·(VC + 13C²L)`; for a forward pass the items are its floating-point operations, `2·(VC + 13C²L)` a token.
#![allow(missing_docs, clippy::unwrap_used)]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Int, Tensor};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// Tokens of one forward pass.
const TOKENS: usize = 256;

fn main() {
    divan::main();
}

/// The small-text model, and the 169M model's blocks with a small vocabulary.
#[derive(Clone, Copy, Debug)]
enum Size {
    Small,
    Blocks169M,
}

const SIZES: [Size; 2] = [Size::Small, Size::Blocks169M];

impl Size {
    fn config(self) -> RwkvConfig {
        match self {
            Self::Small => RwkvConfig::new(65, 4, 128),
            Self::Blocks169M => RwkvConfig::new(4096, 12, 768),
        }
    }

    /// Weights that take part in a token: everything but the embedding.
    fn weights(self) -> usize {
        let config = self.config();
        config.num_params() - config.vocab_size * config.n_embd
    }
}

/// Small random weights: the orthogonal start would take longer than the bench.
struct Randomise;

impl<B: Backend> ModuleMapper<B> for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let weights = Tensor::random(param.lazy_shape(), Distribution::Normal(0.0, 0.02), &param.lazy_device());
        Param::initialized(param.id, weights)
    }
}

fn model<B: RwkvBackend>(size: Size) -> Rwkv<B> {
    Rwkv::new(&size.config(), 0, &Default::default()).map(&mut Randomise)
}

fn step<B: RwkvBackend>(bencher: Bencher, size: Size) {
    let device = Default::default();
    let model = model::<B>(size);
    let token = Tensor::<B, 1, Int>::from_data([1], &device);
    let (_, state) = model.step(token.clone(), model.zero_state(1));
    B::sync(&device).unwrap();
    bencher.counter(BytesCount::new(4 * size.weights())).bench_local(|| {
        let out = model.step(token.clone(), state.clone());
        B::sync(&device).unwrap();
        out
    });
}

fn forward<B: RwkvBackend>(bencher: Bencher, size: Size) {
    let device = Default::default();
    let model = model::<B>(size);
    let tokens = Tensor::<B, 2, Int>::ones([1, TOKENS], &device);
    let _ = model.forward(tokens.clone(), model.zero_state(1));
    B::sync(&device).unwrap();
    bencher.counter(ItemsCount::new(2 * size.weights() * TOKENS)).bench_local(|| {
        let out = model.forward(tokens.clone(), model.zero_state(1));
        B::sync(&device).unwrap();
        out
    });
}

macro_rules! on {
    ($feature:literal, $name:ident, $backend:ty) => {
        #[cfg(feature = $feature)]
        mod $name {
            use super::*;
            #[divan::bench(args = SIZES, max_time = 5)]
            fn step(bencher: Bencher, size: Size) {
                super::step::<$backend>(bencher, size);
            }
            #[divan::bench(args = SIZES, max_time = 5)]
            fn forward(bencher: Bencher, size: Size) {
                super::forward::<$backend>(bencher, size);
            }
        }
    };
}

on!("flex", flex, burn::backend::Flex);
on!("ndarray", ndarray, burn::backend::NdArray<f32>);
on!("wgpu", wgpu, burn::backend::Wgpu);
on!("cuda", cuda, burn::backend::Cuda);
