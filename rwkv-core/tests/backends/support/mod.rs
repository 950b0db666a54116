//! What the test files share.

pub mod device;
pub mod fixture;
pub mod oracle;

pub use device::{has_device, say};

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use rwkv_core::state::State;

/// Runs each test on every backend that is compiled in. A GPU backend without a device says that it was skipped.
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "flex")]
        mod flex {
            $(#[test] fn $test() { super::$test::<burn::backend::Flex>(&Default::default()); })*
        }
        #[cfg(feature = "ndarray")]
        mod ndarray {
            $(#[test] fn $test() { super::$test::<burn::backend::NdArray<f32>>(&Default::default()); })*
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $test() {
                if $crate::support::has_device::<burn::backend::Wgpu>("wgpu", stringify!($test)) {
                    super::$test::<burn::backend::Wgpu>(&Default::default());
                }
            })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $test() {
                if $crate::support::has_device::<burn::backend::Cuda>("cuda", stringify!($test)) {
                    super::$test::<burn::backend::Cuda>(&Default::default());
                }
            })*
        }
    };
}

/// A tensor of these values, in this dtype.
pub fn tensor<B: Backend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    (device, dtype): &(&B::Device, DType),
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (*device, *dtype))
}

/// A tensor's values in row-major order.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The tolerance of gradients that go through Burn's softmax: its quotient's gradient multiplies with a reciprocal, which
/// NdArray takes from the processor's estimate, of 12 bits with AVX2 and 14 with AVX-512.
pub fn through_softmax<B: Backend>(device: &B::Device) -> f64 {
    if B::name(device).contains("ndarray") { 6e-4 } else { 1e-4 }
}

/// Asserts that `got` is within `tolerance` of `want`, relative to the largest entry of `want`. Prints the
/// largest error and returns it.
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let scale = want.iter().fold(0.0f64, |max, x| max.max(x.abs())).max(1e-30);
    let mut worst = (0, 0.0f64);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / scale;
        // A NaN never compares greater: it is the worst error there is.
        if error > worst.1 || error.is_nan() {
            worst = (i, if error.is_nan() { f64::INFINITY } else { error });
        }
    }
    let (i, error) = worst;
    println!("{what}: largest error {error:.2e} of {scale:.3e}");
    assert!(
        error <= tolerance,
        "{what}: element {i} is {}, expected {}; error {error:.2e} of the largest entry {scale:.3e} exceeds {tolerance:.0e}",
        got[i],
        want[i]
    );
    error
}

/// What a state means, layer by layer: both shifts, and the ratio and logarithm of the WKV sums.
pub fn meaning<B: Backend>(state: &State<B>) -> Vec<f64> {
    let mut out = Vec::new();
    for layer in &state.layers {
        out.extend(values(layer.att_x.clone()));
        out.extend(values(layer.ffn_x.clone()));
        let channels = layer.memory.dims()[2];
        for sequence in values(layer.memory.clone()).chunks(3 * channels) {
            let (a, b, p) = (&sequence[..channels], &sequence[channels..2 * channels], &sequence[2 * channels..]);
            out.extend(a.iter().zip(b).map(|(a, b)| a / b));
            out.extend(b.iter().zip(p).map(|(b, p)| b.ln() + p));
        }
    }
    out
}
