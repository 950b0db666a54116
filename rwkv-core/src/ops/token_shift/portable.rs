//! Token shift in plain tensor operations.

use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::token_shift_forward`](crate::ops::RwkvBackend::token_shift_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>, last: FloatTensor<B>, mu: FloatTensor<B>) -> FloatTensor<B> {
    let (x, last, mu) = (tensor::<B, 3>(x), tensor::<B, 2>(last), tensor::<B, 3>(mu));
    let (dtype, inside) = (x.dtype(), inner_dtype(x.dtype()));
    let x = x.cast(inside);
    let previous = previous(x.clone(), last.cast(inside));
    primitive((previous.clone() + (x - previous) * mu.cast(inside)).cast(dtype))
}

/// Default body of [`RwkvBackend::token_shift_backward`](crate::ops::RwkvBackend::token_shift_backward):
/// `∂x_t = μ·grad_t + (1−μ)·grad_{t+1}`, `∂last = (1−μ)·grad_0` and `∂μ = Σ (x_t − x_{t−1})·grad_t`.
#[must_use]
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    mu: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let (x, last, mu, grad) = (tensor::<B, 3>(x), tensor::<B, 2>(last), tensor::<B, 3>(mu), tensor::<B, 3>(grad));
    let dtypes = [x.dtype(), last.dtype(), mu.dtype()];
    let inside = inner_dtype(dtypes[0]);
    let (x, last, mu, grad) = (x.cast(inside), last.cast(inside), mu.cast(inside), grad.cast(inside));
    let [batch, time, width] = x.dims();

    let difference = x.clone() - previous(x, last);
    let to_mu = (difference * grad.clone()).sum_dim(1).sum_dim(0);
    let to_previous = grad.clone() * (mu.clone().neg() + 1.0);
    let to_last = to_previous.clone().narrow(1, 0, 1).reshape([batch, width]);
    let nothing = Tensor::zeros([batch, 1, width], (&grad.device(), inside));
    let from_next = match time {
        1 => nothing,
        _ => Tensor::cat(vec![to_previous.narrow(1, 1, time - 1), nothing], 1),
    };
    let to_x = grad * mu + from_next;
    [primitive(to_x.cast(dtypes[0])), primitive(to_last.cast(dtypes[1])), primitive(to_mu.cast(dtypes[2]))]
}

/// Every token's predecessor, `[B, T, C]`.
fn previous<B: Backend>(x: Tensor<B, 3>, last: Tensor<B, 2>) -> Tensor<B, 3> {
    let time = x.dims()[1];
    let last = last.unsqueeze_dim(1);
    if time == 1 { last } else { Tensor::cat(vec![last, x.narrow(1, 0, time - 1)], 1) }
}
