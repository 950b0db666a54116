//! AFT-local: AFT-full whose biases act on near tokens alone.

use super::aft_full::{FACTOR_STD, biases};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::positions::{Positions, at_least_one, sum_over_slots};
use super::{aft, cache, mixer};
use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`AftLocal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AftLocalSettings {
    /// Positions with biases of their own; later ones are taken as the last of them.
    pub ctx_len: usize,
    /// Inner size of the factors that the biases are products of.
    pub rank: usize,
    /// Tokens on which biases act, the current one among them.
    pub window: usize,
}

impl Default for AftLocalSettings {
    fn default() -> Self {
        Self { ctx_len: 256, rank: 32, window: 32 }
    }
}

impl MixerSettings for AftLocalSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let factor = |name| Parameter::new(name, [1, self.ctx_len, self.rank], Rule::Normal { std: FACTOR_STD });
        aft::parameters(config).into_iter().chain(["position_query", "position_key"].map(factor)).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        cache::empty(2 * config.dim_att)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        mixer::projections(&self.parameters(config)) + 2.0 * sum_over_slots(config, ctx_len)
    }

    fn validate(&self, _config: &RwkvConfig) -> Result<()> {
        at_least_one("ctx_len", self.ctx_len)?;
        at_least_one("rank", self.rank)?;
        at_least_one("window", self.window)
    }
}

/// The Attention Free Transformer with biases of near positions.
///
/// ```text
/// q, k, v = W_q·x, W_k·x, W_v·x
/// out_t = W_o·(σ(q_t) ⊙ Σ_{s ≤ t} e^{k_s + w_ts} ⊙ v_s / Σ_{s ≤ t} e^{k_s + w_ts})
/// w_ts = a_t·b_s where t − s < window, else 0
/// ```
///
/// Otherwise as [`AftFull`](super::AftFull), memory and limits included. Tokens beyond the window are still looked at, with equal
/// biases.
///
/// # Source
/// Zhai et al., An Attention Free Transformer (arXiv 2105.14103), eq. 4, with the factorised biases of §3.2.
#[derive(Module, Debug)]
pub struct AftLocal<B: Backend> {
    /// `W_q`, from `C` to `A`.
    pub query: Projection<B>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    /// The factor `a` of the position that looks back, `[1, N, rank]`.
    pub position_query: Param<Tensor<B, 3>>,
    /// The factor `b` of the position that is looked at, `[1, N, rank]`.
    pub position_key: Param<Tensor<B, 3>>,
    #[module(skip)]
    window: usize,
}

impl<B: Backend> Mixer<B> for AftLocal<B> {
    type Settings = AftLocalSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: AftLocalSettings) -> Self {
        let [query, key, value, output] = aft::projections(init, name);
        let factor = |part: &str| init.tensor(&format!("{name}.{part}"), [1, settings.ctx_len, settings.rank]);
        let (position_query, position_key) = (factor("position_query"), factor("position_key"));
        Self { query, key, value, output, position_query, position_key, window: settings.window }
    }

    fn settings(&self) -> AftLocalSettings {
        let [_, ctx_len, rank] = self.position_key.lazy_shape().dims();
        AftLocalSettings { ctx_len, rank, window: self.window }
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { query, key, value, output, .. } = self;
        vec![("query", query), ("key", key), ("value", value), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for AftLocal<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (k, v) = aft::keys_and_values((&self.key, &self.value), &x, &mut *at);
        let [_, time, channels] = k.dims();
        let now = cache::next_positions(&memory, time);
        let memory = cache::append(memory, vec![k, v], now.clone());
        let ([k, v], slots) = cache::slots(&memory, [channels, channels]);
        let positions = Positions::new(now, slots);
        let w = biases(&self.position_query, &self.position_key, &positions);
        let y = aft::average(w.mask_fill(positions.beyond(self.window), 0.0), positions.hidden(), k, v);
        let y = aft::gated_output((&self.query, &self.output), &x, y, at);
        (y, last_token(x), memory)
    }
}
