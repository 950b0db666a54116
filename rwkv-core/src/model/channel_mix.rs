//! Channel-mix: the sub-block that mixes channels, in the place of a Transformer's feed-forward layer.

use super::init::Initializer;
use super::layers::last_token;
use super::projection::Projection;
use super::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use crate::ops::gate::gate;
use crate::ops::squared_relu::squared_relu;
use crate::ops::token_shift::token_shift;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
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
    pub key: Projection<B>,
    /// `W_r`, from `C` to `C`.
    pub receptance: Projection<B>,
    /// `W_v`, from `F` to `C`.
    pub value: Projection<B>,
}

impl<B: Backend> ChannelMix<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        Self {
            time_mix_k: init.tensor(&format!("{name}.time_mix_k"), [1, 1, c]),
            time_mix_r: init.tensor(&format!("{name}.time_mix_r"), [1, 1, c]),
            key: Projection::new(init, &format!("{name}.key"), c, f),
            receptance: Projection::new(init, &format!("{name}.receptance"), c, c),
            value: Projection::new(init, &format!("{name}.value"), f, c),
        }
    }

    pub(super) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, receptance, value, .. } = self;
        vec![("key", key), ("receptance", receptance), ("value", value)]
    }
}

impl<B: RwkvBackend> ChannelMix<B> {
    /// Mixes channels. Intermediates go through `at` under their local names.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the token before `x`
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]` and the new `last`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        restarts: Option<LayerRestarts<'_, B>>,
        mut at: impl FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let mu = [&self.time_mix_k, &self.time_mix_r].map(Param::val);
        // Now, so that `x` goes before the largest intermediates come.
        let new_last = last_token(x.clone());
        let [x_k, x_r] = match &restarts {
            None => token_shift(x, last, mu),
            Some(restarts) => restarts.token_shift(x, last, mu, restarts.fresh_ffn_x()),
        };
        let (x_k, x_r) = (at("shift_k", x_k), at("shift_r", x_r));
        let k = at("key", self.key.forward(x_k));
        let r = at("receptance", self.receptance.forward(x_r));
        let value = at("value", self.value.forward(squared_relu(k)));
        (at("output", gate(r, value)), new_last)
    }
}
