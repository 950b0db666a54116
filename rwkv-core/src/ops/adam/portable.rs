//! Adam's update in plain tensor operations.

use super::{AdamUpdate, Factors};
use crate::ops::{cast, primitive, tensor};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::adam`](crate::ops::RwkvBackend::adam).
#[must_use]
pub fn updates<B: Backend>(updates: Vec<AdamUpdate<B>>, norm: &FloatTensor<B>) -> Vec<[FloatTensor<B>; 3]> {
    updates.into_iter().map(|update| after(update, norm.clone())).collect()
}

fn after<B: Backend>(update: AdamUpdate<B>, norm: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let AdamUpdate { param, grad, first, second, step } = update;
    let Factors { max_norm, beta_1, beta_2, new_1, new_2, epsilon, keep, rate, scale } = (&step).into();
    let (shape, norm) = (param.shape(), tensor::<B, 1>(cast::<B>(norm, grad.dtype())));
    let flat = |x: FloatTensor<B>| tensor::<B, 1>(B::float_reshape(x, [shape.num_elements()].into()));
    let [param, grad, first, second] = [param, grad, first, second].map(flat);
    let clip = (norm.full_like(max_norm) / (norm.clone() + 1e-6)).clamp_max(1.0);
    let grad = grad * clip;
    let new_first = first.clone() * beta_1 + grad.clone() * new_1;
    let new_second = second.clone() * beta_2 + grad.clone() * grad * new_2;
    let update = new_first.clone() / (new_second.clone().sqrt() * scale + epsilon) * rate;
    let new_param = param.clone() * keep - update;
    // Chosen, not multiplied: zero times a number that is none is none.
    let left_out = norm.is_finite().bool_not().expand([shape.num_elements()]);
    [(param, new_param), (first, new_first), (second, new_second)].map(|(old, new)| {
        let chosen = new.mask_where(left_out.clone(), old);
        B::float_reshape(primitive(chosen), shape.clone())
    })
}
