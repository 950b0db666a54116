//! From logits to losses and the gradient, in plain tensor operations around the cross-entropy of the backend.

use crate::ops::{RwkvBackend, inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};

/// Some rows of logits, and what their losses count.
#[derive(Debug, Clone)]
pub struct LogitRows<B: Backend> {
    /// Logits, `[N, W]`.
    pub logits: FloatTensor<B>,
    /// How many of the `W` columns are logits; the others are there for the sake of the products, and are zeros.
    pub vocab: usize,
    /// The ids that follow, `[N]`.
    pub targets: IntTensor<B>,
    /// The weight of each row's loss, `[N]`, in the dtype of the arithmetic.
    pub weights: FloatTensor<B>,
    /// L2Wrap's factor.
    pub l2_wrap: f32,
}

/// [`RwkvBackend::losses_of_rows`] for any backend.
#[must_use]
pub fn losses<B: RwkvBackend>(rows: LogitRows<B>, wants_gradient: bool) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let LogitRows { logits, vocab, targets, weights, l2_wrap } = rows;
    let logits: Tensor<B, 2> = tensor(logits);
    let (dtype, [count, width]) = (logits.dtype(), logits.dims());
    let logits = if width == vocab { logits } else { logits.narrow(1, 0, vocab) };
    let logits = primitive(logits.cast(inner_dtype(dtype)));
    let targets = Tensor::<B, 1, Int>::from_primitive(targets);
    let (losses, lse) = B::cross_entropy_forward(logits.clone(), targets.clone().into_primitive(), l2_wrap);
    let losses = primitive::<B, 1>(tensor::<B, 1>(losses) * tensor(weights.clone()));
    if !wants_gradient {
        return (losses, None);
    }
    let gradient = B::cross_entropy_backward(logits, targets.into_primitive(), lse, weights, l2_wrap);
    let gradient = tensor::<B, 2>(gradient).cast(dtype);
    let gradient = if width == vocab {
        gradient
    } else {
        let beyond = Tensor::<B, 2>::zeros([count, width - vocab], &gradient.device()).cast(dtype);
        Tensor::cat(vec![gradient, beyond], 1)
    };
    (losses, Some(primitive(gradient)))
}
