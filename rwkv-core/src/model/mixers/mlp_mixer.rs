//! MLP-Mixer's token mixing: two layers over positions instead of channels, made causal.

use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::mlp::gelu;
use super::positions::{Positions, at_least_one, sum_over_slots};
use super::{cache, mixer};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`MlpMixer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpMixerSettings {
    /// Positions with weights of their own; later ones are taken as the last of them.
    pub ctx_len: usize,
    /// Whether there is a projection before and after, to `dim_att` channels and back, as every other sequence mixer has. The
    /// paper's has none; then `dim_att` must be `n_embd`.
    pub projections: bool,
}

impl Default for MlpMixerSettings {
    fn default() -> Self {
        Self { ctx_len: 256, projections: true }
    }
}

impl MixerSettings for MlpMixerSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a, n) = (config.n_embd, config.dim_att, self.ctx_len);
        let around = [
            Parameter::new("value.weight", [a, c], Rule::Orthogonal { gain: 1.0 }),
            Parameter::new("output.weight", [c, a], Rule::Zeros),
        ];
        let matrix = |name| Parameter::new(name, [1, n, n], Rule::Normal { std: (n as f64).powf(-0.5) });
        let bias = |name| Parameter::new(name, [1, n, 1], Rule::Zeros);
        let layers = [matrix("mix_in"), bias("mix_in_bias"), matrix("mix_out"), bias("mix_out_bias")];
        around.into_iter().filter(|_| self.projections).chain(layers).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        cache::empty(2 * config.dim_att)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        mixer::projections(&self.parameters(config)) + 2.0 * sum_over_slots(config, ctx_len)
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        if !self.projections && config.dim_att != config.n_embd {
            let expected = format!("n_embd, {}, because an MLP-Mixer without projections has its width", config.n_embd);
            return Err(Error::config("dim_att", expected, config.dim_att));
        }
        at_least_one("ctx_len", self.ctx_len)
    }
}

/// The token mixing of MLP-Mixer, causal.
///
/// ```text
/// v = W_v·x
/// h_s = gelu(Σ_{r ≤ s} M_sr·v_r + a_s)
/// out_t = W_o·(Σ_{s ≤ t} N_ts·h_s + b_t)
/// ```
///
/// All channels have the same weights. There are as many hidden tokens as tokens, so that each may look at what came before it
/// alone. Without projections `v = x`, and `out` has no `W_o`. Sums are in `f32`. Positions from `ctx_len` on are taken
/// as the last one. The memory is a cache of `v` and `h`, and grows with the text.
///
/// # Source
/// Tolstikhin et al., MLP-Mixer (arXiv 2105.01601), eq. 1, the first line, with lower triangular matrices. The paper's has no
/// projections around it (`projections = false`) and any number of hidden tokens.
#[derive(Module, Debug)]
pub struct MlpMixer<B: Backend> {
    /// `W_v`, from `C` to `A`.
    pub value: Option<Projection<B>>,
    /// `W_o`, from `A` to `C`.
    pub output: Option<Projection<B>>,
    /// `M`, `[1, N, N]`; what is above the diagonal has no effect.
    pub mix_in: Param<Tensor<B, 3>>,
    /// `a`, `[1, N, 1]`.
    pub mix_in_bias: Param<Tensor<B, 3>>,
    /// `N`, `[1, N, N]`; what is above the diagonal has no effect.
    pub mix_out: Param<Tensor<B, 3>>,
    /// `b`, `[1, N, 1]`.
    pub mix_out_bias: Param<Tensor<B, 3>>,
    #[module(skip)]
    channels: usize,
}

impl<B: Backend> Mixer<B> for MlpMixer<B> {
    type Settings = MlpMixerSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: MlpMixerSettings) -> Self {
        let MlpMixerSettings { ctx_len: n, projections } = settings;
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let name = |part: &str| format!("{name}.{part}");
        let projection = |part: &str, inputs, out| projections.then(|| Projection::new(init, &name(part), inputs, out));
        Self {
            value: projection("value", c, a),
            output: projection("output", a, c),
            mix_in: init.tensor(&name("mix_in"), [1, n, n]),
            mix_in_bias: init.tensor(&name("mix_in_bias"), [1, n, 1]),
            mix_out: init.tensor(&name("mix_out"), [1, n, n]),
            mix_out_bias: init.tensor(&name("mix_out_bias"), [1, n, 1]),
            channels: a,
        }
    }

    fn settings(&self) -> MlpMixerSettings {
        MlpMixerSettings { ctx_len: self.mix_in.lazy_shape()[1], projections: self.value.is_some() }
    }

    fn size(&self) -> usize {
        self.channels
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { value, output, .. } = self;
        let value = value.as_mut().map(|value| ("value", value));
        value.into_iter().chain(output.as_mut().map(|output| ("output", output))).collect()
    }
}

impl<B: RwkvBackend> MixesSequences<B> for MlpMixer<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let [_, time, _] = x.dims();
        let channels = self.channels;
        let v = match &self.value {
            Some(value) => at("value", value.forward(x.clone())),
            None => x.clone(),
        };
        let (v, now) = (v.cast(inside), cache::next_positions(&memory, time));
        let with = |h: Tensor<B, 3>| cache::append(memory.clone(), vec![v.clone(), h], now.clone());
        // The new hidden tokens are known only when all values are: anything is in their place until then.
        let ([values, _], slots) = cache::slots(&with(v.clone()), [channels, channels]);
        let positions = Positions::new(now.clone(), slots);
        let hidden = positions.hidden();
        let layer = |matrix: &Param<Tensor<B, 3>>, bias: &Param<Tensor<B, 3>>, x: Tensor<B, 3>| {
            let weights = positions.of_pairs(matrix.val()).mask_fill(hidden.clone(), 0.0);
            weights.matmul(x) + positions.of_queries(bias.val())
        };

        let h = gelu(at("hidden", layer(&self.mix_in, &self.mix_in_bias, values)));
        let memory = with(h);
        let ([_, h], _) = cache::slots(&memory, [channels, channels]);
        let y = at("mixed", layer(&self.mix_out, &self.mix_out_bias, h).cast(dtype));
        let y = match &self.output {
            Some(output) => at("output", output.forward(y)),
            None => y,
        };
        (y, last_token(x), memory)
    }
}
