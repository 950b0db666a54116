//! Token shift: every projection sees a blend of the current token and the one before.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `μ ⊙ x_t + (1−μ) ⊙ x_{t−1}`, with `last` in the place of the token before the first.
///
/// `μ` is not confined to `[0, 1]`: upper layers start with a value mix of up to 1.3.
///
/// # Shapes
/// - `x`: `[B, T, C]`, a sub-block's input after its layer norm
/// - `last`: `[B, C]`; zeros before the first token
/// - `mu`: `[1, 1, C]`
/// - returns `[B, T, C]`, in the dtype of `x`
///
/// # Panics
/// When the shapes do not fit each other.
///
/// # Source
/// Paper eq. 11–13 and 16–17; `time_shift` of the official code.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let x = Tensor::<B, 3>::from_data([[[1.0, 10.0], [2.0, 20.0]]], &device);
/// let last = Tensor::<B, 2>::from_data([[0.0, 5.0]], &device);
/// let mu = Tensor::<B, 3>::from_data([[[1.0, 0.5]]], &device);
/// let mixed: Vec<f32> = rwkv_core::ops::token_shift::token_shift(x, last, mu).into_data().to_vec().unwrap();
/// assert_eq!(mixed, [1.0, 7.5, 2.0, 15.0]);
/// # }
/// ```
pub fn token_shift<B: RwkvBackend>(x: Tensor<B, 3>, last: Tensor<B, 2>, mu: Tensor<B, 3>) -> Tensor<B, 3> {
    let [batch, _, width] = x.dims();
    assert_eq!(last.dims(), [batch, width], "token_shift: last does not fit x of shape {:?}", x.dims());
    assert_eq!(mu.dims(), [1, 1, width], "token_shift: mu does not fit x of shape {:?}", x.dims());
    tensor(B::token_shift_forward(primitive(x), primitive(last), primitive(mu)))
}
