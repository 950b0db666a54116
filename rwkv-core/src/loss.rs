//! The training loss: cross-entropy in `f32`, and RWKV's L2Wrap.

use crate::ops::RwkvBackend;
use crate::ops::cross_entropy::cross_entropy;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// L2Wrap's factor.
const L2_WRAP: f32 = 1e-4;

/// Negative log-likelihood of every target, in nats.
///
/// # Shapes
/// - `logits`: `[B, T, V]`
/// - `targets`: `[B, T]`, ids below `V`
/// - returns `[B, T]`, in `f32`
#[must_use]
pub fn token_nll<B: RwkvBackend>(logits: Tensor<B, 3>, targets: Tensor<B, 2, Int>) -> Tensor<B, 2> {
    losses(logits, targets, 0.0)
}

/// The mean cross-entropy over all targets, whose gradient also pulls every position's largest logit towards zero.
///
/// L2Wrap adds `1e-4/(B·T)·max_v logit` to the gradient at the largest logit, which is the gradient of
/// `½·1e-4·mean(max_v logit)²`. The value of the loss is that of the cross-entropy alone.
///
/// # Shapes
/// - `logits`: `[B, T, V]`
/// - `targets`: `[B, T]`
/// - returns `[1]`, in nats
///
/// # Source
/// Reference §4.1; `L2Wrap` of the official code. There the term ignores the factor of gradient accumulation; here it is
/// part of the loss, so that accumulating micro-batches equals one large batch.
#[must_use]
pub fn training_loss<B: RwkvBackend>(logits: Tensor<B, 3>, targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    losses(logits, targets, L2_WRAP).mean()
}

fn losses<B: RwkvBackend>(logits: Tensor<B, 3>, targets: Tensor<B, 2, Int>, l2_wrap: f32) -> Tensor<B, 2> {
    let [batch, time, vocab] = logits.dims();
    let logits = logits.reshape([batch * time, vocab]);
    cross_entropy(logits, targets.reshape([batch * time]), l2_wrap).reshape([batch, time])
}

/// The number in a tensor of one element, such as a loss. Waits for the device.
#[must_use]
pub fn value<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
