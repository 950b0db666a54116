//! A sequence as its steps, for mixers that need one after the other.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The tokens of `[B, T, D]`, each `[B, D]`, in their order.
///
/// Half by half: the gradient of a cut is as large as what was cut, so `T` cuts of the whole would take `T` times its size, and
/// halves take `log₂ T` times.
pub(super) fn split<B: Backend>(x: Tensor<B, 3>) -> Vec<Tensor<B, 2>> {
    let [batch, time, size] = x.dims();
    if time == 1 {
        return vec![x.reshape([batch, size])];
    }
    let half = time / 2;
    let mut steps = split(x.clone().narrow(1, 0, half));
    steps.extend(split(x.narrow(1, half, time - half)));
    steps
}

/// The sequence of these tokens: `[B, D]` each, to `[B, T, D]`.
pub(super) fn join<B: Backend>(steps: Vec<Tensor<B, 2>>) -> Tensor<B, 3> {
    Tensor::stack(steps, 1)
}

/// The rows of a memory, `[B, 2, A]`, each `[B, A]`.
pub(super) fn pair<B: Backend>(memory: Tensor<B, 3>) -> [Tensor<B, 2>; 2] {
    let [batch, _, size] = memory.dims();
    [0, 1].map(|row| memory.clone().narrow(1, row, 1).reshape([batch, size]))
}
