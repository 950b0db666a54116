//! Token shift: every sub-block sees a blend of the current token and the one before.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The current tokens beside their predecessors.
#[derive(Debug, Clone)]
pub struct TokenShift<B: Backend> {
    previous: Tensor<B, 3>,   // x_{t−1}
    difference: Tensor<B, 3>, // x_t − x_{t−1}
}

impl<B: Backend> TokenShift<B> {
    /// Puts `last`, the token before `x`, in front of `x`, and returns the last token of `x` beside the result.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, the sub-block's input after its layer norm
    /// - `last`: `[B, C]`; zeros before the first token
    /// - returns the shifted pair and the new `last`, `[B, C]`
    ///
    /// # Source
    /// Reference §1.2; `time_shift` of the official code.
    #[must_use]
    pub fn new(x: Tensor<B, 3>, last: Tensor<B, 2>) -> (Self, Tensor<B, 2>) {
        let [batch, time, width] = x.dims();
        let last = last.reshape([batch, 1, width]);
        let new_last = x.clone().narrow(1, time - 1, 1).reshape([batch, width]);
        let previous = if time == 1 { last } else { Tensor::cat(vec![last, x.clone().narrow(1, 0, time - 1)], 1) };
        let difference = x - previous.clone();
        (Self { previous, difference }, new_last)
    }

    /// `μ ⊙ x_t + (1−μ) ⊙ x_{t−1}`.
    ///
    /// `μ` is not confined to `[0, 1]`: upper layers start with a value mix of up to 1.3.
    ///
    /// # Shapes
    /// - `mu`: `[1, 1, C]`
    /// - returns `[B, T, C]`
    #[must_use]
    pub fn mix(&self, mu: Tensor<B, 3>) -> Tensor<B, 3> {
        self.previous.clone() + self.difference.clone() * mu
    }
}
