//! A step of training, and its two parts: gradients, then clipping with Adam.
//!
//! `cargo bench --workspace --bench train_step`. The items are floating-point operations ([`flops::per_token`]), the
//! characters tokens; the rate that this machine reaches on large matrices is printed first, so that an item rate is read as
//! a share of it. The bytes of the optimizer are what it must move: parameter, gradient and two moments read, three written.
#![allow(missing_docs, clippy::unwrap_used)]

use burn::backend::Autodiff;
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use divan::Bencher;
use divan::counter::{BytesCount, CharsCount, ItemsCount};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::backprop::Backprop;
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Batch, Sample};
use rwkv_train::flops;
use rwkv_train::optim::{Adam, AdamConfig, Groups, Update, global_norm};
use rwkv_train::trainee::Trainee;

/// As in the programs: with the system's allocator a quarter of a step is new pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    #[cfg(feature = "flex")]
    print_peak::<burn::backend::Flex>("flex");
    #[cfg(feature = "ndarray")]
    print_peak::<burn::backend::NdArray<f32>>("ndarray");
    #[cfg(feature = "wgpu")]
    print_peak::<burn::backend::Wgpu>("wgpu");
    #[cfg(feature = "cuda")]
    print_peak::<burn::backend::Cuda>("cuda");
    divan::main();
}

#[allow(dead_code)] // without a backend
fn print_peak<B: Backend>(name: &str) {
    let peak = flops::measured_peak::<B>(&Default::default()).unwrap();
    println!("{name}: the backend's own large matrix products run at {:.0} GFLOP/s", peak / 1e9);
}

/// The recipes of `compare_with_pytorch.py --speed`: layers, width, context and batch, 65 characters.
#[derive(Clone, Copy, Debug)]
enum Recipe {
    L4C128,
    L12C256,
}

const RECIPES: [Recipe; 2] = [Recipe::L4C128, Recipe::L12C256];
const VOCAB: usize = 65;

impl Recipe {
    fn sizes(self) -> [usize; 4] {
        match self {
            Self::L4C128 => [4, 128, 64, 12],
            Self::L12C256 => [12, 256, 256, 8],
        }
    }
}

/// All that a step needs.
struct Bench<B: RwkvAutodiffBackend> {
    /// Nothing only while it is updated.
    trainee: Option<Trainee<B>>,
    backprop: Backprop,
    optimizer: Adam<B>,
    batch: Batch,
    device: B::Device,
    flops: f64,
}

impl<B: RwkvAutodiffBackend> Bench<B> {
    fn new(recipe: Recipe) -> Self {
        let [layers, width, time, rows] = recipe.sizes();
        let (model, device) = (RwkvConfig::new(VOCAB, layers, width), B::Device::default());
        let config = RunConfig::from_toml("").unwrap();
        let trainee = Trainee::new(Rwkv::new(&model, 0, &device), &config).unwrap();
        let sample = |row: usize| Sample::plain((0..=time).map(|i| ((i * 7 + row * i) % VOCAB) as u32).collect());
        let groups = Groups { layerwise_lr: config.train.layerwise_lr, stage: config.train.stage };
        let adam = AdamConfig { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, groups };
        Self {
            backprop: Backprop::new(&config),
            optimizer: Adam::new(adam, trainee.named_parameters()),
            batch: Batch::new((0..rows).map(sample), time),
            flops: flops::per_token(&model, time) * (rows * time) as f64,
            trainee: Some(trainee),
            device,
        }
    }

    fn trainee(&self) -> &Trainee<B> {
        self.trainee.as_ref().unwrap()
    }

    fn gradients(&self) -> GradientsParams {
        let scale = 1.0 / self.batch.weight();
        B::burst(|| {
            let (_, grads) = self.backprop.gradients(self.trainee(), &self.batch, 0..self.batch.size() as u64, scale);
            B::sync(&self.device).unwrap();
            grads
        })
    }

    fn update(&mut self, grads: GradientsParams) {
        B::burst(|| {
            let norm = global_norm(self.trainee(), &grads, &self.device);
            let update = Update { lr: 1e-4, weight_decay: 0.0, max_norm: 1.0 };
            self.trainee = self.trainee.take().map(|trainee| self.optimizer.step(update, trainee, grads, norm));
            B::sync(&self.device).unwrap();
        });
    }
}

fn step<B: RwkvAutodiffBackend>(bencher: Bencher, recipe: Recipe) {
    let mut bench = Bench::<B>::new(recipe);
    let [_, _, time, rows] = recipe.sizes();
    bencher.counter(ItemsCount::new(bench.flops as u64)).counter(CharsCount::new(time * rows)).bench_local(|| {
        B::burst(|| {
            let grads = bench.gradients();
            bench.update(grads);
        });
    });
}

fn gradients<B: RwkvAutodiffBackend>(bencher: Bencher, recipe: Recipe) {
    let bench = Bench::<B>::new(recipe);
    let [_, _, time, rows] = recipe.sizes();
    let bencher = bencher.counter(ItemsCount::new(bench.flops as u64)).counter(CharsCount::new(time * rows));
    bencher.bench_local(|| bench.gradients());
}

fn optimizer<B: RwkvAutodiffBackend>(bencher: Bencher, recipe: Recipe) {
    let mut bench = Bench::<B>::new(recipe);
    let bytes = 4 * 7 * bench.trainee().num_trained();
    let first = bench.gradients();
    bench.update(first);
    let bench = std::cell::RefCell::new(bench);
    bencher.counter(BytesCount::new(bytes)).with_inputs(|| bench.borrow().gradients()).bench_local_values(|given| {
        bench.borrow_mut().update(given);
    });
}

macro_rules! on {
    ($feature:literal, $name:ident, $backend:ty) => {
        #[cfg(feature = $feature)]
        mod $name {
            use super::*;
            #[divan::bench(args = RECIPES, max_time = 15)]
            fn step(bencher: Bencher, recipe: Recipe) {
                super::step::<Autodiff<$backend>>(bencher, recipe);
            }
            #[divan::bench(args = RECIPES, max_time = 15)]
            fn gradients(bencher: Bencher, recipe: Recipe) {
                super::gradients::<Autodiff<$backend>>(bencher, recipe);
            }
            #[divan::bench(args = RECIPES, max_time = 15)]
            fn optimizer(bencher: Bencher, recipe: Recipe) {
                super::optimizer::<Autodiff<$backend>>(bencher, recipe);
            }
        }
    };
}

on!("flex", flex, burn::backend::Flex);
on!("ndarray", ndarray, burn::backend::NdArray<f32>);
on!("wgpu", wgpu, burn::backend::Wgpu);
on!("cuda", cuda, burn::backend::Cuda);
