//! The loop over chunks of rows, in plain tensor operations around what the backend makes of the logits.

use super::{HeadLossInputs, LogitRows};
use crate::ops::linear::linear;
use crate::ops::{RwkvBackend, inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor};

/// The loss alone, `[1]`.
#[must_use]
pub fn value<B: RwkvBackend>(inputs: HeadLossInputs<B>) -> FloatTensor<B> {
    let all = Rows::new(inputs);
    let losses = all.chunks().map(|rows| rows.losses(false).0).collect();
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
        let (loss, gradient) = rows.losses(wants_x || wants_weight);
        losses.push(loss);
        let Some(gradient) = gradient else { continue };
        if wants_x {
            let to_rows = B::linear_backward_x(primitive(all.weight.clone()), primitive(gradient.clone()));
            to_x.push(tensor::<B, 2>(to_rows));
        }
        if wants_weight {
            // Chunks add up in the dtype of the arithmetic: in `bf16` a long sum would stop growing.
            let of_chunk = B::linear_backward_weight(primitive(rows.x.clone()), primitive(gradient));
            let of_chunk = tensor::<B, 2>(of_chunk).cast(inner_dtype(x_dtype));
            to_weight = Some(match to_weight {
                None => of_chunk,
                Some(sum) => sum + of_chunk,
            });
        }
    }
    let to_x = wants_x.then(|| primitive::<B, 2>(Tensor::cat(to_x, 0)));
    let vocab = all.vocab;
    // The head with its zeros, before the gradient is held twice.
    drop(all);
    let to_weight = to_weight.map(|sum| {
        let sum = if vocab == sum.dims()[1] { sum } else { sum.narrow(1, 0, vocab) };
        primitive(sum.cast(weight_dtype))
    });
    (primitive::<B, 1>(Tensor::cat(losses, 0).sum()), to_x, to_weight)
}

/// Some rows, and the whole head.
struct Rows<B: Backend> {
    x: Tensor<B, 2>,
    /// The head, `[C, W]`, with as many columns of zeros as the backend's products want.
    weight: Tensor<B, 2>,
    vocab: usize,
    targets: Tensor<B, 1, Int>,
    weights: Tensor<B, 1>,
    l2_wrap: f32,
    chunk: usize,
}

impl<B: RwkvBackend> Rows<B> {
    fn new(inputs: HeadLossInputs<B>) -> Self {
        let HeadLossInputs { x, weight, targets, weights, l2_wrap, chunk } = inputs;
        let targets = Tensor::from_primitive(targets);
        let weight: Tensor<B, 2> = tensor(weight);
        let [inputs, vocab] = weight.dims();
        let beyond = B::width_of_products(vocab) - vocab;
        let weight = if beyond == 0 {
            weight
        } else {
            let zeros = Tensor::<B, 2>::zeros([inputs, beyond], &weight.device()).cast(weight.dtype());
            Tensor::cat(vec![weight, zeros], 1)
        };
        Self { x: tensor(x), weight, vocab, targets, weights: tensor(weights), l2_wrap, chunk }
    }

    fn chunks(&self) -> impl Iterator<Item = Self> + '_ {
        let [count, _] = self.x.dims();
        (0..count).step_by(self.chunk).map(move |start| {
            let length = self.chunk.min(count - start);
            Self {
                x: self.x.clone().narrow(0, start, length),
                weight: self.weight.clone(),
                vocab: self.vocab,
                targets: self.targets.clone().narrow(0, start, length),
                weights: self.weights.clone().narrow(0, start, length),
                l2_wrap: self.l2_wrap,
                chunk: length,
            }
        })
    }

    /// The weighted losses, `[N]`, and if wanted the gradient of their sum with respect to the logits, `[N, W]`.
    fn losses(&self, wants_gradient: bool) -> (Tensor<B, 1>, Option<Tensor<B, 2>>) {
        let rows = LogitRows {
            logits: primitive(linear(self.x.clone(), self.weight.clone())),
            vocab: self.vocab,
            targets: self.targets.clone().into_primitive(),
            weights: primitive(self.weights.clone()),
            l2_wrap: self.l2_wrap,
        };
        let (losses, gradient) = B::losses_of_rows(rows, wants_gradient);
        (tensor(losses), gradient.map(tensor))
    }
}
