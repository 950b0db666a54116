//! Cross-entropy of logits, with RWKV's L2Wrap on the way back.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::{Int, Tensor};

/// Negative log-likelihood of every target, in nats, without the table of log-probabilities.
///
/// ```text
/// loss_n = ln Σ_v e^{logits_nv} − logits_{n, target_n}
/// ```
///
/// With `l2_wrap > 0` the gradient also pulls every position's largest logit towards zero: it is that of
/// `loss_n + ½·l2_wrap·(max_v logits_nv)²`. The value is that of the cross-entropy alone.
///
/// # Shapes
/// - `logits`: `[N, V]`
/// - `targets`: `[N]`, ids below `V`
/// - returns `[N]`, in `f32` (or `f64`)
///
/// # Panics
/// When the shapes do not fit each other.
///
/// # Source
/// `L2Wrap` of the official code.
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let logits = Tensor::<B, 2>::from_data([[0.0, 0.0, 0.0, 0.0]], &device);
/// let targets = Tensor::<B, 1, Int>::from_data([2], &device);
/// let loss = rwkv_core::ops::cross_entropy::cross_entropy(logits, targets, 0.0).into_scalar();
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # }
/// ```
pub fn cross_entropy<B: RwkvBackend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>, l2_wrap: f32) -> Tensor<B, 1> {
    let [count, _] = logits.dims();
    assert_eq!(targets.dims(), [count], "cross_entropy: targets do not fit logits of shape {:?}", logits.dims());
    tensor(B::cross_entropy_forward(primitive(logits), targets.into_primitive(), l2_wrap).0)
}
