//! The projection: a matrix product whose weight learns.

pub(super) mod autodiff;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::{Shape, Tensor};

/// `x·W`, the projection of every row.
///
/// ```text
/// ∂x = grad·Wᵀ        ∂W = xᵀ·grad
/// ```
///
/// # Shapes
/// - `x`: `[…, in]`; `weight`: `[in, out]`, of the same dtype
/// - returns `[…, out]`
///
/// The rows of all leading dimensions form one matrix of `N` rows. As a batch of matrices, the weight's gradient would be
/// computed once per sequence and summed; reshaping before and after would be a copy each on NdArray.
///
/// # Cost
/// `2·N·in·out` floating-point operations forward, twice as many backward.
///
/// # Panics
/// When `x` has another width than the weight has rows.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::linear::linear;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let x = Tensor::<B, 2>::from_data([[1.0, 2.0]], &device);
/// let weight = Tensor::<B, 2>::from_data([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]], &device);
/// let y: Vec<f32> = linear(x, weight).into_data().to_vec().unwrap();
/// assert_eq!(y, [1.0, 2.0, 5.0]);
/// # }
/// ```
pub fn linear<B: RwkvBackend, const D: usize>(x: Tensor<B, D>, weight: Tensor<B, 2>) -> Tensor<B, D> {
    let (width, [inputs, _]) = (x.dims()[D - 1], weight.dims());
    assert_eq!(width, inputs, "linear: x is {width} wide, the weight takes {inputs}");
    tensor(B::linear_forward(primitive(x), primitive(weight)))
}

/// The length of a row.
pub(super) fn width(shape: &Shape) -> usize {
    shape[shape.num_dims() - 1]
}

/// The shape with rows of another length.
pub(super) fn with_width(mut shape: Shape, width: usize) -> Shape {
    let last = shape.num_dims() - 1;
    shape[last] = width;
    shape
}
