//! Token shift: every projection sees a blend of the current token and the one before.

pub(super) mod autodiff;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// What [`RwkvBackend::token_shift_backward`] returns.
#[derive(Debug, Clone)]
pub struct TokenShiftGradients<B: Backend> {
    /// Of `x`, `[B, T, C]`.
    pub x: FloatTensor<B>,
    /// Of `last`, `[B, C]`.
    pub last: FloatTensor<B>,
    /// Of every `μ`, `[1, 1, C]`.
    pub mu: Vec<FloatTensor<B>>,
}

/// `μ ⊙ x_t + (1−μ) ⊙ x_{t−1}` for several `μ` at once, with `last` in the place of the token before the first.
///
/// A sub-block blends its input for each of its projections; together, `x` and its gradient go through memory once.
/// `μ` is not confined to `[0, 1]`: upper layers start with a value mix of up to 1.3.
///
/// # Shapes
/// - `x`: `[B, T, C]`, a sub-block's input after its layer norm
/// - `last`: `[B, C]`; zeros before the first token
/// - `mu`: `[1, 1, C]` each
/// - returns `[B, T, C]` each, in the dtype of `x`
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
/// use rwkv_core::ops::token_shift::token_shift;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let x = Tensor::<B, 3>::from_data([[[1.0, 10.0], [2.0, 20.0]]], &device);
/// let last = Tensor::<B, 2>::from_data([[0.0, 5.0]], &device);
/// let [mu_k, mu_r] = [[1.0, 0.5], [0.0, 0.0]].map(|mu| Tensor::<B, 3>::from_data([[mu]], &device));
/// let [x_k, x_r] = token_shift(x, last, [mu_k, mu_r]);
/// assert_eq!(x_k.into_data().to_vec::<f32>().unwrap(), [1.0, 7.5, 2.0, 15.0]);
/// assert_eq!(x_r.into_data().to_vec::<f32>().unwrap(), [0.0, 5.0, 1.0, 10.0]);
/// # }
/// ```
pub fn token_shift<B: RwkvBackend, const N: usize>(
    x: Tensor<B, 3>,
    last: Tensor<B, 2>,
    mu: [Tensor<B, 3>; N],
) -> [Tensor<B, 3>; N] {
    let mut out = token_shifts(x, last, mu.to_vec()).into_iter();
    std::array::from_fn(|_| out.next().expect("as many outputs as mixes"))
}

/// [`token_shift`] for a number of `μ` that is not known before.
pub(crate) fn token_shifts<B: RwkvBackend>(
    x: Tensor<B, 3>,
    last: Tensor<B, 2>,
    mu: Vec<Tensor<B, 3>>,
) -> Vec<Tensor<B, 3>> {
    let [batch, _, width] = x.dims();
    assert_eq!(last.dims(), [batch, width], "token_shift: last does not fit x of shape {:?}", x.dims());
    for mu in &mu {
        assert_eq!(mu.dims(), [1, 1, width], "token_shift: mu does not fit x of shape {:?}", x.dims());
    }
    let mu = mu.into_iter().map(primitive).collect();
    B::token_shift_forward(primitive(x), primitive(last), mu).into_iter().map(tensor).collect()
}
