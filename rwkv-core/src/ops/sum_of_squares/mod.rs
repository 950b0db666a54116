//! The sum of the squares of many tensors, of which the norm of all gradients is the root.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, tensor};
use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

/// `Σ x²` over all elements of all tensors, in `f32` for tensors of fewer bits. Not differentiable.
///
/// # Shapes
/// - `tensors`: any, of one dtype; as primitives, so that they may differ in rank
/// - returns `[1]`
///
/// # Panics
/// Without a tensor.
///
/// # Cost
/// Two floating-point operations an element, which is read once. On GPUs a launch for up to 16 tensors and one more.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::sum_of_squares::sum_of_squares;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let (x, y) = (Tensor::<B, 1>::from_data([1.0, 2.0], &Default::default()), Tensor::<B, 2>::from_data([[-3.0, 0.5]], &Default::default()));
/// let sum = sum_of_squares::<B>(vec![x.into_primitive().tensor(), y.into_primitive().tensor()]);
/// assert_eq!(sum.into_scalar(), 14.25);
/// # }
/// ```
pub fn sum_of_squares<B: RwkvBackend>(tensors: Vec<FloatTensor<B>>) -> Tensor<B, 1> {
    assert!(!tensors.is_empty(), "sum_of_squares: there is no tensor");
    tensor(B::sum_of_squares(tensors))
}
