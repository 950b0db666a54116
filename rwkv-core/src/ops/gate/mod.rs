//! The receptance gate: `σ(r) ⊙ y`, at the end of both sub-blocks.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `σ(r) ⊙ y` with `σ(r) = 1/(1 + e^−r)`.
///
/// # Shapes
/// - `r`, `y`: the same; so is the result
///
/// # Panics
/// When the shapes differ.
///
/// # Source
/// Paper eq. 15 and 18.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let r = Tensor::<B, 1>::from_data([0.0, 100.0, -100.0], &device);
/// let y = Tensor::<B, 1>::from_data([2.0, 2.0, 2.0], &device);
/// let out: Vec<f32> = rwkv_core::ops::gate::gate(r, y).into_data().to_vec().unwrap();
/// assert_eq!(out[..2], [1.0, 2.0]);
/// # }
/// ```
pub fn gate<B: RwkvBackend, const D: usize>(r: Tensor<B, D>, y: Tensor<B, D>) -> Tensor<B, D> {
    assert_eq!(r.dims(), y.dims(), "gate: r and y have different shapes");
    tensor(B::gate_forward(primitive(r), primitive(y)))
}
