//! Time-mix: the sub-block that looks back in time, in the place of a Transformer's attention.

use super::init::Initializer;
use super::layers::{last_token, linear, project};
use crate::ops::gate::gate;
use crate::ops::token_shift::token_shift;
use crate::ops::{RwkvBackend, wkv::wkv};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The time-mix sub-block, officially `att`.
///
/// ```text
/// r = W_r·shift(x, μ_r)   k = W_k·shift(x, μ_k)   v = W_v·shift(x, μ_v)
/// out = W_o·(σ(r) ⊙ wkv(k, v))
/// ```
///
/// # Source
/// Paper eq. 11–15; `RWKV_TimeMix` of the official code.
#[derive(Module, Debug)]
pub struct TimeMix<B: Backend> {
    /// Raw decay per channel, `[A]`; the log-decay is `w = −exp(time_decay)`.
    pub time_decay: Param<Tensor<B, 1>>,
    /// Bonus of the current token per channel, `u`, `[A]`.
    pub time_first: Param<Tensor<B, 1>>,
    /// Share of the current token in the key path, `[1, 1, C]`.
    pub time_mix_k: Param<Tensor<B, 3>>,
    /// Share of the current token in the value path, `[1, 1, C]`.
    pub time_mix_v: Param<Tensor<B, 3>>,
    /// Share of the current token in the receptance path, `[1, 1, C]`.
    pub time_mix_r: Param<Tensor<B, 3>>,
    /// `W_k`, from `C` to `A`.
    pub key: Linear<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Linear<B>,
    /// `W_r`, from `C` to `A`.
    pub receptance: Linear<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Linear<B>,
}

impl<B: Backend> TimeMix<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        Self {
            time_decay: init.tensor(&format!("{name}.time_decay"), [a]),
            time_first: init.tensor(&format!("{name}.time_first"), [a]),
            time_mix_k: init.tensor(&format!("{name}.time_mix_k"), [1, 1, c]),
            time_mix_v: init.tensor(&format!("{name}.time_mix_v"), [1, 1, c]),
            time_mix_r: init.tensor(&format!("{name}.time_mix_r"), [1, 1, c]),
            key: linear(init, &format!("{name}.key"), c, a),
            value: linear(init, &format!("{name}.value"), c, a),
            receptance: linear(init, &format!("{name}.receptance"), c, a),
            output: linear(init, &format!("{name}.output"), a, c),
        }
    }
}

impl<B: RwkvBackend> TimeMix<B> {
    /// Mixes over time.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the token before `x`
    /// - `state`: `[B, 3, A]`, the WKV state before `x`
    /// - returns `[B, T, C]`, the new `last` and the new `state`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        state: Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let shifted = |mu: &Param<Tensor<B, 3>>| token_shift(x.clone(), last.clone(), mu.val());
        let k = project(&self.key, shifted(&self.time_mix_k));
        let v = project(&self.value, shifted(&self.time_mix_v));
        let r = project(&self.receptance, shifted(&self.time_mix_r));
        let (y, state) = wkv(self.time_decay.val(), self.time_first.val(), k, v, state);
        (project(&self.output, gate(r, y)), last_token(x), state)
    }
}
