//! Channel-mix: the sub-block that mixes channels, in the place of a Transformer's feed-forward layer.

use super::init::Initializer;
use super::layers::{linear, project};
use super::token_shift::TokenShift;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::Backend;

/// The channel-mix sub-block, officially `ffn`.
///
/// ```text
/// r = W_r·shift(x, μ_r)   k = relu(W_k·shift(x, μ_k))²
/// out = σ(r) ⊙ W_v·k
/// ```
///
/// # Source
/// Paper eq. 16–18; `RWKV_ChannelMix` of the official code.
#[derive(Module, Debug)]
pub struct ChannelMix<B: Backend> {
    /// Share of the current token in the key path, `[1, 1, C]`.
    pub time_mix_k: Param<Tensor<B, 3>>,
    /// Share of the current token in the receptance path, `[1, 1, C]`.
    pub time_mix_r: Param<Tensor<B, 3>>,
    /// `W_k`, from `C` to `F`.
    pub key: Linear<B>,
    /// `W_r`, from `C` to `C`.
    pub receptance: Linear<B>,
    /// `W_v`, from `F` to `C`.
    pub value: Linear<B>,
}

impl<B: Backend> ChannelMix<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        Self {
            time_mix_k: init.tensor(&format!("{name}.time_mix_k"), [1, 1, c]),
            time_mix_r: init.tensor(&format!("{name}.time_mix_r"), [1, 1, c]),
            key: linear(init, &format!("{name}.key"), c, f),
            receptance: linear(init, &format!("{name}.receptance"), c, c),
            value: linear(init, &format!("{name}.value"), f, c),
        }
    }

    /// Mixes channels.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the token before `x`
    /// - returns `[B, T, C]` and the new `last`
    pub fn forward(&self, x: Tensor<B, 3>, last: Tensor<B, 2>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let (shift, last) = TokenShift::new(x, last);
        let k = relu(project(&self.key, shift.mix(self.time_mix_k.val())));
        let r = project(&self.receptance, shift.mix(self.time_mix_r.val()));
        (sigmoid(r) * project(&self.value, k.clone() * k), last)
    }
}
