//! Time-mix: the sub-block that looks back in time, in the place of a Transformer's attention.

use super::init::Initializer;
use super::layers::last_token;
use super::projection::Projection;
use super::restarts::LayerRestarts;
use crate::ops::gate::gate;
use crate::ops::token_shift::token_shift;
use crate::ops::{RwkvBackend, wkv::wkv};
use burn::module::{Module, Param};
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
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_r`, from `C` to `A`.
    pub receptance: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
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
            key: Projection::new(init, &format!("{name}.key"), c, a),
            value: Projection::new(init, &format!("{name}.value"), c, a),
            receptance: Projection::new(init, &format!("{name}.receptance"), c, a),
            output: Projection::new(init, &format!("{name}.output"), a, c),
        }
    }

    pub(super) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, value, receptance, output, .. } = self;
        vec![("key", key), ("value", value), ("receptance", receptance), ("output", output)]
    }
}

impl<B: RwkvBackend> TimeMix<B> {
    /// Mixes over time. Intermediates go through `at` under their local names.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the token before `x`
    /// - `state`: `[B, 3, A]`, the WKV state before `x`
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]`, the new `last` and the new `state`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        state: Tensor<B, 3>,
        restarts: Option<LayerRestarts<'_, B>>,
        mut at: impl FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let mu = [&self.time_mix_k, &self.time_mix_v, &self.time_mix_r].map(Param::val);
        // Now, so that `x` goes before the largest intermediates come.
        let new_last = last_token(x.clone());
        let [x_k, x_v, x_r] = match &restarts {
            None => token_shift(x, last, mu),
            Some(restarts) => restarts.token_shift(x, last, mu, restarts.fresh_att_x()),
        };
        let (x_k, x_v, x_r) = (at("shift_k", x_k), at("shift_v", x_v), at("shift_r", x_r));
        let k = at("key", self.key.forward(x_k));
        let v = at("value", self.value.forward(x_v));
        let r = at("receptance", self.receptance.forward(x_r));
        let (decay, first) = (self.time_decay.val(), self.time_first.val());
        let (y, state) = match &restarts {
            None => wkv(decay, first, k, v, state),
            Some(restarts) => restarts.wkv(&decay, &first, &k, &v, state),
        };
        let y = at("wkv", y);
        (at("output", self.output.forward(gate(r, y))), new_last, state)
    }
}
