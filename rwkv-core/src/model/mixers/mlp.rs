//! The Transformer's feed-forward layer.

use super::attention::biased;
use super::kinds::{small_init, wang_init};
use super::mixer::{At, Mixer, MixerSettings, MixesChannels, Parameter};
use crate::config::RwkvConfig;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Two layers with biases and GELU between them.
///
/// ```text
/// out = W_v·gelu(W_k·x + b_k) + b_v        gelu(x) = x·Φ(x)
/// ```
///
/// # Source
/// GPT-NeoX's `ParallelMLP`, as in Pythia; the matrices have the names of RWKV's channel-mix.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// `W_k`, from `C` to `F`.
    pub key: Projection<B>,
    /// `b_k`, `[F]`.
    pub key_bias: Param<Tensor<B, 1>>,
    /// `W_v`, from `F` to `C`.
    pub value: Projection<B>,
    /// `b_v`, `[C]`.
    pub value_bias: Param<Tensor<B, 1>>,
}

/// [`Mlp`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpSettings {}

impl MixerSettings for MlpSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, f) = (config.n_embd, config.dim_ffn);
        vec![
            Parameter::new("key.weight", [f, c], small_init(config)),
            Parameter::new("key_bias", [f], Rule::Zeros),
            Parameter::new("value.weight", [c, f], wang_init(config)),
            Parameter::new("value_bias", [c], Rule::Zeros),
        ]
    }
}

impl<B: Backend> Mixer<B> for Mlp<B> {
    type Settings = MlpSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: MlpSettings) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        Self {
            key: Projection::new(init, &format!("{name}.key"), c, f),
            key_bias: init.tensor(&format!("{name}.key_bias"), [f]),
            value: Projection::new(init, &format!("{name}.value"), f, c),
            value_bias: init.tensor(&format!("{name}.value_bias"), [c]),
        }
    }

    fn settings(&self) -> MlpSettings {
        MlpSettings {}
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, value, .. } = self;
        vec![("key", key), ("value", value)]
    }
}

/// `x·Φ(x)`, from the error function: the gradient of Burn 0.21's own is that of an approximation on most backends, and
/// off by up to 5e-4.
pub(super) fn gelu<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let phi = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * phi
}

impl<B: RwkvBackend> MixesChannels<B> for Mlp<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        _restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let k = at("key", biased(&self.key, &self.key_bias, x.clone()));
        let y = at("output", biased(&self.value, &self.value_bias, gelu(k)));
        (y, last_token(x))
    }
}
