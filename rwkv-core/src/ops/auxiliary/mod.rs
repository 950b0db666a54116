//! A second loss on the way of the first.

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `x`, unchanged; where gradients are computed, that of `loss` joins them with the factor 1.
///
/// Whatever is computed from `x` may lead to a loss `f(x)`. Its gradients then are those of `f(x) + loss`, although `loss` has
/// no part in its value. So a part of a model can ask for something of its own, as the balance of its experts, and the
/// training loop need not know of it. The factor is 1 in every backward pass that comes by, whatever `f` was multiplied by.
///
/// # Shapes
/// - `x`: any; the result has the same
/// - `loss`: `[1]`
///
/// # Panics
/// When the loss is not one number.
///
/// # Example
/// ```
/// use burn::backend::{Autodiff, Flex};
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::auxiliary::with_auxiliary;
/// # #[cfg(feature = "flex")] {
/// let x = Tensor::<Autodiff<Flex>, 1>::from_data([3.0], &Default::default()).require_grad();
/// let loss = x.clone().powi_scalar(2); // its gradient: 2·3
/// let y = with_auxiliary(x.clone(), loss).mul_scalar(10.0);
/// assert_eq!(y.clone().into_scalar(), 30.0);
/// assert_eq!(x.grad(&y.backward()).unwrap().into_scalar(), 10.0 + 6.0);
/// # }
/// ```
#[must_use]
pub fn with_auxiliary<B: RwkvBackend, const D: usize>(x: Tensor<B, D>, loss: Tensor<B, 1>) -> Tensor<B, D> {
    assert_eq!(loss.dims(), [1], "a loss is one number");
    tensor(B::auxiliary_forward(primitive(x), primitive(loss)))
}
