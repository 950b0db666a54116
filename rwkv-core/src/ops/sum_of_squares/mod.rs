//! The sum of a tensor's squares, of which the norm of all gradients is made.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `Σ x²`, in `f32` for tensors of fewer bits. Not differentiable.
///
/// # Shapes
/// - `x`: any
/// - returns `[1]`
///
/// # Cost
/// Two floating-point operations an element, which is read once.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::sum_of_squares::sum_of_squares;
/// # #[cfg(feature = "flex")] {
/// let x = Tensor::<burn::backend::Flex, 2>::from_data([[1.0, 2.0], [-3.0, 0.5]], &Default::default());
/// assert_eq!(sum_of_squares(x).into_scalar(), 14.25);
/// # }
/// ```
pub fn sum_of_squares<B: RwkvBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 1> {
    tensor(B::sum_of_squares(primitive(x)))
}
