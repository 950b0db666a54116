//! Cross-entropy in plain tensor operations.

use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};

/// Default body of [`RwkvBackend::cross_entropy_forward`](crate::ops::RwkvBackend::cross_entropy_forward).
#[must_use]
pub fn forward<B: Backend>(logits: FloatTensor<B>, targets: IntTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let logits = tensor::<B, 2>(logits);
    let inside = inner_dtype(logits.dtype());
    let logits = logits.cast(inside);
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).unsqueeze_dim::<2>(1);
    let largest = logits.clone().max_dim(1);
    let lse = (logits.clone() - largest.clone()).exp().sum_dim(1).log() + largest; // [N, 1]
    let loss = lse.clone() - logits.gather(1, targets);
    (primitive(loss.squeeze_dim::<1>(1)), primitive(lse.squeeze_dim::<1>(1)))
}

/// Default body of [`RwkvBackend::cross_entropy_backward`](crate::ops::RwkvBackend::cross_entropy_backward):
/// `∂logits_nv = grad_n·(softmax_nv − [v = target_n] + l2_wrap·[v = argmax]·max)`.
#[must_use]
pub fn backward<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    l2_wrap: f32,
) -> FloatTensor<B> {
    let logits = tensor::<B, 2>(logits);
    let dtype = logits.dtype();
    let logits = logits.cast(inner_dtype(dtype));
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).unsqueeze_dim::<2>(1);
    let grad = tensor::<B, 1>(grad).unsqueeze_dim::<2>(1); // [N, 1]
    let softmax = (logits.clone() - tensor::<B, 1>(lse).unsqueeze_dim::<2>(1)).exp();
    let at = |index: Tensor<B, 2, Int>, value: Tensor<B, 2>| {
        logits.zeros_like().scatter(1, index, value, burn::tensor::IndexingUpdateOp::Add)
    };
    let mut to_logits = softmax * grad.clone() - at(targets, grad.clone());
    if l2_wrap > 0.0 {
        let (largest, index) = logits.clone().max_dim_with_indices(1);
        to_logits = to_logits + at(index, largest * grad * l2_wrap);
    }
    primitive(to_logits.cast(dtype))
}
