//! RWKV-4's channel-mix with a switch for each of its parts.

use super::ablated_shift::{TokenShift, shifted};
use super::mixer::{At, Mixer, MixerSettings, MixesChannels, Parameter};
use super::mlp::gelu;
use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use crate::ops::gate::gate;
use crate::ops::squared_relu::squared_relu;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, silu};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`AblatedChannelMix`]; the defaults are RWKV-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AblatedChannelMixSettings {
    /// What the projections see of the token before.
    pub token_shift: TokenShift,
    /// The nonlinearity of the hidden units.
    pub activation: Activation,
    /// Whether the output is gated by a receptance; without it there is none.
    pub gate: bool,
}

impl Default for AblatedChannelMixSettings {
    fn default() -> Self {
        Self { token_shift: TokenShift::default(), activation: Activation::default(), gate: true }
    }
}

/// The nonlinearity of the hidden units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(k, 0)²`, as in RWKV-4.
    #[default]
    SquaredRelu,
    /// `max(k, 0)`.
    Relu,
    /// `k·Φ(k)`.
    Gelu,
    /// `k·σ(k) ⊙ u` with another projection `u` of the same input.
    Swiglu,
}

/// RWKV-4's channel-mix with a switch for each of its parts.
///
/// With default settings it is bit for bit the [`ChannelMix`](crate::model::ChannelMix), parameters included; what is
/// switched off has no parameters.
///
/// # Source
/// Reference §1.4. `SwiGLU`: Shazeer (arXiv 2002.05202).
#[derive(Module, Debug)]
pub struct AblatedChannelMix<B: Backend> {
    /// Share of the current token in the key path.
    pub time_mix_k: Option<Param<Tensor<B, 3>>>,
    /// Share of the current token in the receptance path.
    pub time_mix_r: Option<Param<Tensor<B, 3>>>,
    /// `W_k`, from `C` to `F`.
    pub key: Projection<B>,
    /// The second projection, from `C` to `F`.
    pub up: Option<Projection<B>>,
    /// `W_r`, from `C` to `C`.
    pub receptance: Option<Projection<B>>,
    /// `W_v`, from `F` to `C`.
    pub value: Projection<B>,
    #[module(skip)]
    settings: AblatedChannelMixSettings,
}

impl MixerSettings for AblatedChannelMixSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, f) = (config.n_embd, config.dim_ffn);
        let own = |name, shape: [usize; 2]| Some(Parameter::new(name, shape, None));
        let up = || Parameter::new("up.weight", [f, c], Rule::Orthogonal { gain: 1.0 });
        let parameters = [
            self.token_shift.parameter("time_mix_k", config),
            self.token_shift.parameter("time_mix_r", config).filter(|_| self.gate),
            own("key.weight", [f, c]),
            (self.activation == Activation::Swiglu).then(up),
            own("receptance.weight", [c, c]).filter(|_| self.gate),
            own("value.weight", [c, f]),
        ];
        parameters.into_iter().flatten().collect()
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        self.token_shift.validate(config)
    }
}

impl<B: Backend> Mixer<B> for AblatedChannelMix<B> {
    type Settings = AblatedChannelMixSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: AblatedChannelMixSettings) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        let AblatedChannelMixSettings { token_shift, activation, gate } = settings;
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        Self {
            time_mix_k: token_shift.mu(init, name, "time_mix_k"),
            time_mix_r: if gate { token_shift.mu(init, name, "time_mix_r") } else { None },
            key: matrix("key", c, f),
            up: (activation == Activation::Swiglu).then(|| matrix("up", c, f)),
            receptance: gate.then(|| matrix("receptance", c, c)),
            value: matrix("value", f, c),
            settings,
        }
    }

    fn settings(&self) -> AblatedChannelMixSettings {
        self.settings
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, up, receptance, value, .. } = self;
        let mut found = vec![("key", key), ("value", value)];
        found.extend(up.as_mut().map(|matrix| ("up", matrix)));
        found.extend(receptance.as_mut().map(|matrix| ("receptance", matrix)));
        found
    }
}

impl<B: RwkvBackend> AblatedChannelMix<B> {
    fn text(&self, x: Tensor<B, 3>, last: Tensor<B, 2>, at: At<'_, B>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let shift = self.settings.token_shift;
        let [x_k, x_r] = shifted([&self.time_mix_k, &self.time_mix_r], shift, &x, &last);
        let x_k = at("shift_k", x_k);
        let k = at("key", self.key.forward(x_k.clone()));
        let k = match (self.settings.activation, &self.up) {
            (Activation::Relu, _) => relu(k),
            (Activation::Gelu, _) => gelu(k),
            (Activation::Swiglu, Some(up)) => silu(k) * at("up", up.forward(x_k)),
            _ => squared_relu(k),
        };
        let value = at("value", self.value.forward(k));
        let y = match &self.receptance {
            None => value,
            Some(receptance) => {
                let x_r = at("shift_r", x_r);
                gate(at("receptance", receptance.forward(x_r)), value)
            }
        };
        (at("output", y), last_token(x))
    }
}

impl<B: RwkvBackend> MixesChannels<B> for AblatedChannelMix<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        match restarts {
            None => self.text(x, last, at),
            Some(restarts) => restarts.channels_in_pieces(x, last, |x, last| self.text(x, last, &mut *at)),
        }
    }
}
