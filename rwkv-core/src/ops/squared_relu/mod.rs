//! The squared ReLU of the channel-mix.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `max(x, 0)²`.
///
/// # Shapes
/// - any; the result has the same
///
/// # Source
/// Paper eq. 18.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let x = Tensor::<B, 1>::from_data([-2.0, 0.5, 3.0], &Default::default());
/// let out: Vec<f32> = rwkv_core::ops::squared_relu::squared_relu(x).into_data().to_vec().unwrap();
/// assert_eq!(out, [0.0, 0.25, 9.0]);
/// # }
/// ```
#[must_use]
pub fn squared_relu<B: RwkvBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::squared_relu_forward(primitive(x)))
}
