//! The WKV kernels, per backend: time, and the bandwidth that the bytes they must move amount to.
//!
//! `cargo bench -p rwkv-core --bench wkv --features ndarray,wgpu`. An element is one `(b, t, c)`: the forward pass reads
//! k and v and writes y, 12 bytes in f32; the backward pass reads k, v, y, gy and the log-denominators and writes gk and
//! gv, 28 bytes. Items are elements.
#![allow(missing_docs, clippy::unwrap_used)]

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Distribution, Tensor};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::wkv::{WkvInputs, WkvSaved, empty_state};

/// Batch, time, channels: the small-text recipe, one long sequence and a batch of the 169M model.
const SIZES: [[usize; 3]; 3] = [[12, 64, 128], [1, 1024, 768], [8, 1024, 768]];

/// What fills a large GPU by itself: 3.2 GB forward, 7.5 GB backward.
#[cfg(feature = "cuda")]
const LARGE: [[usize; 3]; 4] = [SIZES[0], SIZES[1], SIZES[2], [32, 4096, 2048]];

fn main() {
    divan::main();
}

fn float<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn inputs<B: RwkvBackend>([batch, time, channels]: [usize; 3], device: &B::Device) -> WkvInputs<B> {
    let uniform = |low, high| Distribution::Uniform(low, high);
    WkvInputs {
        w: float(Tensor::<B, 1>::random([channels], uniform(-3.0, -0.01), device)),
        u: float(Tensor::<B, 1>::random([channels], uniform(-1.0, 1.0), device)),
        k: float(Tensor::<B, 3>::random([batch, time, channels], uniform(-2.0, 2.0), device)),
        v: float(Tensor::<B, 3>::random([batch, time, channels], uniform(-1.0, 1.0), device)),
        state: float(empty_state::<B>(batch, channels, device)),
    }
}

fn forward<B: RwkvBackend>(bencher: Bencher, size: [usize; 3]) {
    let device = Default::default();
    let inputs = inputs::<B>(size, &device);
    let elements: usize = size.iter().product();
    B::sync(&device).unwrap();
    bencher.counter(BytesCount::new(12 * elements)).counter(ItemsCount::new(elements)).bench_local(|| {
        let out = B::wkv_forward(inputs.clone(), false);
        B::sync(&device).unwrap();
        out
    });
}

fn backward<B: RwkvBackend>(bencher: Bencher, size: [usize; 3]) {
    let device = Default::default();
    let inputs = inputs::<B>(size, &device);
    let elements: usize = size.iter().product();
    let out = B::wkv_forward(inputs.clone(), true);
    let saved = WkvSaved { inputs, y: out.y.clone(), lse: out.lse.unwrap() };
    let adjoint = float(empty_state::<B>(size[0], size[2], &device));
    let gy = float(Tensor::<B, 3>::random(size, Distribution::Uniform(-1.0, 1.0), &device));
    B::sync(&device).unwrap();
    bencher.counter(BytesCount::new(28 * elements)).counter(ItemsCount::new(elements)).bench_local(|| {
        let out = B::wkv_backward(saved.clone(), gy.clone(), adjoint.clone());
        B::sync(&device).unwrap();
        out
    });
}

macro_rules! on {
    ($feature:literal, $name:ident, $backend:ty, $sizes:expr) => {
        #[cfg(feature = $feature)]
        mod $name {
            use super::*;
            #[divan::bench(args = $sizes.map(Size))]
            fn wkv_forward(bencher: Bencher, size: Size) {
                forward::<$backend>(bencher, size.0);
            }
            #[divan::bench(args = $sizes.map(Size))]
            fn wkv_backward(bencher: Bencher, size: Size) {
                backward::<$backend>(bencher, size.0);
            }
        }
    };
}

/// A size that prints itself.
#[derive(Clone, Copy)]
struct Size([usize; 3]);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [batch, time, channels] = self.0;
        write!(f, "B={batch} T={time} C={channels}")
    }
}

on!("flex", flex, burn::backend::Flex, SIZES);
on!("ndarray", ndarray, burn::backend::NdArray<f32>, SIZES);
on!("wgpu", wgpu, burn::backend::Wgpu, SIZES);
on!("cuda", cuda, burn::backend::Cuda, LARGE);
