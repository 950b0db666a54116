//! The loop over chunks of rows, in plain tensor operations around the cross-entropy of the backend.

use super::HeadLossInputs;
use crate::ops::linear::linear;
use crate::ops::{RwkvBackend, inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor};

/// The loss alone, `[1]`.
#[must_use]
pub fn value<B: RwkvBackend>(inputs: HeadLossInputs<B>) -> FloatTensor<B> {
    let all = Rows::new(inputs);
    let losses = all.chunks().map(|rows| rows.forward().0).collect();
    primitive::<B, 1>(Tensor::cat(losses, 0).sum())
}

/// The loss, `[1]`, and its gradients with respect to `x` and `weight` as far as they are wanted.
#[must_use]
pub fn with_gradients<B: RwkvBackend>(
    inputs: HeadLossInputs<B>,
    wants_x: bool,
    wants_weight: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>, Option<FloatTensor<B>>) {
    let all = Rows::new(inputs);
    let (x_dtype, weight_dtype) = (all.x.dtype(), all.weight.dtype());
    let (mut losses, mut to_x) = (Vec::new(), Vec::new());
    let mut to_weight: Option<Tensor<B, 2>> = None;
    for rows in all.chunks() {
        let (loss, logits, lse) = rows.forward();
        losses.push(loss);
        let targets = rows.targets.clone().into_primitive();
        let (lse, weights) = (primitive(lse), primitive(rows.weights.clone()));
        let grad = B::cross_entropy_backward(primitive(logits), targets, lse, weights, all.l2_wrap);
        let grad = tensor::<B, 2>(grad).cast(x_dtype);
        if wants_x {
            let to_rows = B::linear_backward_x(primitive(all.weight.clone()), primitive(grad.clone()));
            to_x.push(tensor::<B, 2>(to_rows));
        }
        if wants_weight {
            // Chunks add up in the dtype of the arithmetic: in `bf16` a long sum would stop growing.
            let of_chunk = B::linear_backward_weight(primitive(rows.x.clone()), primitive(grad));
            let of_chunk = tensor::<B, 2>(of_chunk).cast(inner_dtype(x_dtype));
            to_weight = Some(match to_weight {
                None => of_chunk,
                Some(sum) => sum + of_chunk,
            });
        }
    }
    let to_x = wants_x.then(|| primitive::<B, 2>(Tensor::cat(to_x, 0)));
    let to_weight = to_weight.map(|sum| primitive(sum.cast(weight_dtype)));
    (primitive::<B, 1>(Tensor::cat(losses, 0).sum()), to_x, to_weight)
}

/// Some rows, and the whole head.
struct Rows<B: Backend> {
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    weights: Tensor<B, 1>,
    l2_wrap: f32,
    chunk: usize,
}

impl<B: RwkvBackend> Rows<B> {
    fn new(inputs: HeadLossInputs<B>) -> Self {
        let HeadLossInputs { x, weight, targets, weights, l2_wrap, chunk } = inputs;
        let targets = Tensor::from_primitive(targets);
        Self { x: tensor(x), weight: tensor(weight), targets, weights: tensor(weights), l2_wrap, chunk }
    }

    fn chunks(&self) -> impl Iterator<Item = Self> + '_ {
        let [count, _] = self.x.dims();
        (0..count).step_by(self.chunk).map(move |start| {
            let length = self.chunk.min(count - start);
            Self {
                x: self.x.clone().narrow(0, start, length),
                weight: self.weight.clone(),
                targets: self.targets.clone().narrow(0, start, length),
                weights: self.weights.clone().narrow(0, start, length),
                l2_wrap: self.l2_wrap,
                chunk: length,
            }
        })
    }

    /// The weighted losses, `[N]`; the logits, `[N, V]`; the logarithms of the softmax's denominators, `[N]`.
    fn forward(&self) -> (Tensor<B, 1>, Tensor<B, 2>, Tensor<B, 1>) {
        let logits = linear(self.x.clone(), self.weight.clone()).cast(inner_dtype(self.x.dtype()));
        let targets = self.targets.clone().into_primitive();
        let (losses, lse) = B::cross_entropy_forward(primitive(logits.clone()), targets, self.l2_wrap);
        (tensor::<B, 1>(losses) * self.weights.clone(), logits, tensor(lse))
    }
}
