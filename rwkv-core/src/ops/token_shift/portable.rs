//! Token shift in plain tensor operations.

use super::TokenShiftGradients;
use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::token_shift_forward`](crate::ops::RwkvBackend::token_shift_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>, last: FloatTensor<B>, mu: Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> {
    let (x, last) = (tensor::<B, 3>(x), tensor::<B, 2>(last));
    let (dtype, inside) = (x.dtype(), inner_dtype(x.dtype()));
    let x = x.cast(inside);
    let previous = previous(x.clone(), last.cast(inside));
    let difference = x - previous.clone();
    let blend = |mu| previous.clone() + difference.clone() * tensor::<B, 3>(mu).cast(inside);
    mu.into_iter().map(|mu| primitive(blend(mu).cast(dtype))).collect()
}

/// Default body of [`RwkvBackend::token_shift_backward`](crate::ops::RwkvBackend::token_shift_backward):
/// `∂x_t = Σ μ·grad_t + (1−μ)·grad_{t+1}` and `∂last = Σ (1−μ)·grad_0` over all `μ`, and `∂μ = Σ_t (x_t − x_{t−1})·grad_t`.
#[must_use]
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    passed: Vec<(FloatTensor<B>, FloatTensor<B>)>,
) -> TokenShiftGradients<B> {
    let (x, last) = (tensor::<B, 3>(x), tensor::<B, 2>(last));
    let dtypes = [x.dtype(), last.dtype()];
    let inside = inner_dtype(dtypes[0]);
    let (x, last) = (x.cast(inside), last.cast(inside));
    let [batch, time, width] = x.dims();
    let nothing = |time| Tensor::<B, 3>::zeros([batch, time, width], (&x.device(), inside));
    let difference = x.clone() - previous(x.clone(), last);

    let (mut to_here, mut to_previous, mut to_mu) = (nothing(time), nothing(time), Vec::new());
    for (mu, grad) in passed {
        let (mu, grad) = (tensor::<B, 3>(mu), tensor::<B, 3>(grad).cast(inside));
        to_mu.push(primitive((difference.clone() * grad.clone()).sum_dim(1).sum_dim(0).cast(mu.dtype())));
        let here = grad.clone() * mu.cast(inside);
        to_previous = to_previous + (grad - here.clone());
        to_here = to_here + here;
    }
    let to_last = to_previous.clone().narrow(1, 0, 1).reshape([batch, width]);
    let from_next = match time {
        1 => nothing(1),
        _ => Tensor::cat(vec![to_previous.narrow(1, 1, time - 1), nothing(1)], 1),
    };
    let to_x = to_here + from_next;
    TokenShiftGradients { x: primitive(to_x.cast(dtypes[0])), last: primitive(to_last.cast(dtypes[1])), mu: to_mu }
}

/// Every token's predecessor, `[B, T, C]`.
fn previous<B: Backend>(x: Tensor<B, 3>, last: Tensor<B, 2>) -> Tensor<B, 3> {
    let time = x.dims()[1];
    let last = last.unsqueeze_dim(1);
    if time == 1 { last } else { Tensor::cat(vec![last, x.narrow(1, 0, time - 1)], 1) }
}
