//! gMLP: a gate that is a learned sum over the tokens so far.

use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::mlp::gelu;
use super::positions::{Positions, at_least_one, sum_over_slots};
use super::{cache, mixer};
use crate::config::{LAYER_NORM_EPSILON, RwkvConfig};
use crate::error::Result;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use crate::ops::layer_norm::layer_norm;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`Gmlp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GmlpSettings {
    /// Positions with weights of their own; later ones are taken as the last of them.
    pub ctx_len: usize,
}

impl Default for GmlpSettings {
    fn default() -> Self {
        Self { ctx_len: 256 }
    }
}

impl MixerSettings for GmlpSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a, n) = (config.n_embd, config.dim_att, self.ctx_len);
        vec![
            Parameter::new("input.weight", [2 * a, c], Rule::Orthogonal { gain: 1.0 }),
            Parameter::new("output.weight", [c, a], Rule::Zeros),
            Parameter::new("norm_scale", [a], Rule::Ones),
            Parameter::new("norm_bias", [a], Rule::Zeros),
            Parameter::new("spatial", [1, n, n], Rule::Uniform { scale: 1e-3 }),
            Parameter::new("spatial_bias", [1, n, 1], Rule::Ones),
        ]
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        cache::empty(config.dim_att)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        mixer::projections(&self.parameters(config)) + sum_over_slots(config, ctx_len)
    }

    fn validate(&self, _config: &RwkvConfig) -> Result<()> {
        at_least_one("ctx_len", self.ctx_len)
    }
}

/// The spatial gating unit of gMLP, causal.
///
/// ```text
/// z, g = halves of gelu(W_in·x)
/// out_t = W_out·(z_t ⊙ (Σ_{s ≤ t} S_ts·norm(g_s) + b_t))
/// ```
///
/// `S` starts near 0 and `b` at 1, so that the gate starts open. Sums are in `f32`. Positions from `ctx_len` on are taken as the
/// last one. The memory is a cache of `norm(g)`, and grows with the text.
///
/// # Source
/// Liu et al., Pay Attention to MLPs (arXiv 2105.08050), §2.1, with the mask of a causal model. The paper's block has this
/// alone; here it stands in the place of the sequence mixer, `dim_att` wide.
#[derive(Module, Debug)]
pub struct Gmlp<B: Backend> {
    /// `W_in`, from `C` to `2A`.
    pub input: Projection<B>,
    /// `W_out`, from `A` to `C`.
    pub output: Projection<B>,
    /// The norm's factor, `[A]`.
    pub norm_scale: Param<Tensor<B, 1>>,
    /// The norm's bias, `[A]`.
    pub norm_bias: Param<Tensor<B, 1>>,
    /// `S`, `[1, N, N]`; what is above the diagonal has no effect.
    pub spatial: Param<Tensor<B, 3>>,
    /// `b`, `[1, N, 1]`.
    pub spatial_bias: Param<Tensor<B, 3>>,
}

impl<B: Backend> Mixer<B> for Gmlp<B> {
    type Settings = GmlpSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: GmlpSettings) -> Self {
        let (c, a, n) = (init.config.n_embd, init.config.dim_att, settings.ctx_len);
        let name = |part: &str| format!("{name}.{part}");
        Self {
            input: Projection::new(init, &name("input"), c, 2 * a),
            output: Projection::new(init, &name("output"), a, c),
            norm_scale: init.tensor(&name("norm_scale"), [a]),
            norm_bias: init.tensor(&name("norm_bias"), [a]),
            spatial: init.tensor(&name("spatial"), [1, n, n]),
            spatial_bias: init.tensor(&name("spatial_bias"), [1, n, 1]),
        }
    }

    fn settings(&self) -> GmlpSettings {
        GmlpSettings { ctx_len: self.spatial.lazy_shape()[1] }
    }

    fn size(&self) -> usize {
        self.output.shape()[0]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { input, output, .. } = self;
        vec![("input", input), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for Gmlp<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let both = gelu(at("input", self.input.forward(x.clone())));
        let [_, time, width] = both.dims();
        let channels = width / 2;
        let (z, g) = (both.clone().narrow(2, 0, channels), both.narrow(2, channels, channels));
        let g = layer_norm(g, self.norm_scale.val(), self.norm_bias.val(), LAYER_NORM_EPSILON).cast(inside);

        let now = cache::next_positions(&memory, time);
        let memory = cache::append(memory, vec![g], now.clone());
        let ([g], slots) = cache::slots(&memory, [channels]);
        let positions = Positions::new(now, slots);
        let weights = positions.of_pairs(self.spatial.val()).mask_fill(positions.hidden(), 0.0);
        let gate = weights.matmul(g) + positions.of_queries(self.spatial_bias.val());
        let y = at("gate", gate.cast(dtype)) * z;
        (at("output", self.output.forward(y)), last_token(x), memory)
    }
}
