//! The projection: a matrix product whose weight learns.

pub(super) mod autodiff;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `x·W`, the projection of every row.
///
/// ```text
/// ∂x = grad·Wᵀ        ∂W = xᵀ·grad
/// ```
///
/// # Shapes
/// - `x`: `[N, in]`; `weight`: `[in, out]`, of the same dtype
/// - returns `[N, out]`
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
pub fn linear<B: RwkvBackend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([_, width], [inputs, _]) = (x.dims(), weight.dims());
    assert_eq!(width, inputs, "linear: x is {width} wide, the weight takes {inputs}");
    tensor(B::linear_forward(primitive(x), primitive(weight)))
}
