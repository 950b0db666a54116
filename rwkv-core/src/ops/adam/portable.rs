//! Adam's update in plain tensor operations.

use super::{AdamStep, Factors};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::adam_step`](crate::ops::RwkvBackend::adam_step).
#[must_use]
pub fn step<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    step: &AdamStep,
) -> [FloatTensor<B>; 3] {
    let Factors { clip, beta_1, beta_2, new_1, new_2, epsilon, keep, rate, scale } = step.into();
    let times = |x: FloatTensor<B>, factor: f32| B::float_mul_scalar(x, factor.into());
    let grad = times(grad, clip);
    let first = B::float_add(times(first, beta_1), times(grad.clone(), new_1));
    let second = B::float_add(times(second, beta_2), times(B::float_mul(grad.clone(), grad), new_2));
    let below = B::float_add_scalar(times(B::float_sqrt(second.clone()), scale), epsilon.into());
    let update = times(B::float_div(first.clone(), below), rate);
    [B::float_sub(times(param, keep), update), first, second]
}
