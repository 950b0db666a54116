//! RWKV-4's time-mix with a switch for each of its parts.

use super::ablated_shift::{TokenShift, shifted};
use super::cache;
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::tiny_attention::{self, TinyAttention};
use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::init::Initializer;
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use crate::ops::gate::gate;
use crate::ops::wkv::{EMPTY_EXPONENT, wkv};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Settings of [`AblatedTimeMix`]; the defaults are RWKV-4.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::{AblatedTimeMixSettings, Decay, Mixers, SequenceMixerKind, TokenShift};
/// let sequence = SequenceMixerKind::AblatedRwkv4(AblatedTimeMixSettings {
///     token_shift: TokenShift::None,
///     decay: Decay::Shared,
///     ..AblatedTimeMixSettings::default()
/// });
/// let config = RwkvConfig { mixers: Mixers { sequence, ..Mixers::default() }, ..RwkvConfig::new(65, 4, 128) };
/// config.validate()?;
/// # Ok::<_, rwkv_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AblatedTimeMixSettings {
    /// What the projections see of the token before.
    pub token_shift: TokenShift,
    /// How tokens fade.
    pub decay: Decay,
    /// What the current token has before the others.
    pub bonus: Bonus,
    /// What is done with the receptance.
    pub receptance: Receptance,
    /// How a key becomes a weight.
    pub key: Key,
    /// Channels of the tiny attention of RWKV-4b beside WKV, officially `C/16`; 0 for none.
    pub tiny_attention: usize,
}

/// How tokens fade in WKV, by `e^w` a step with `w = −exp(time_decay)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Every channel learns its own, as in RWKV-4.
    #[default]
    Learned,
    /// Every channel has its own, which stays as it starts.
    Fixed,
    /// None: `w = 0`.
    None,
    /// All channels of a layer learn one.
    Shared,
    /// The slopes of `ALiBi`, in every layer, which stay: `w_h = −2^(−8(h+1)/A)`.
    Schedule,
}

/// The bonus `u` of the current token in WKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bonus {
    /// Every channel learns its own, as in RWKV-4.
    #[default]
    Learned,
    /// `u = 0`.
    Zero,
}

/// What stands between the receptance and WKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receptance {
    /// `σ(r) ⊙ wkv`, as in RWKV-4.
    #[default]
    Sigmoid,
    /// `wkv` alone; there is no receptance.
    None,
    /// `tanh(r) ⊙ wkv`.
    Tanh,
}

/// How a key `k` becomes a weight in WKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// `e^k`, as in RWKV-4: a softmax over time.
    #[default]
    Exp,
    /// `elu(k) + 1`, as in linear attention: `k + 1` above 0, `e^k` below.
    Linear,
}

/// RWKV-4's time-mix with a switch for each of its parts.
///
/// With default settings it is bit for bit the [`TimeMix`](crate::model::TimeMix), parameters included; what is switched off
/// has no parameters. RWKV-4b's tiny attention stands beside WKV:
///
/// ```text
/// out = W_o·(σ(r) ⊙ wkv(k, v)) + W_oo·Σ_{s ≤ t} softmax_s(q_t·k'_s/√d)·v'_s
/// ```
///
/// # Source
/// Reference §1.3, §9 (8). `ALiBi`: Press et al. (arXiv 2108.12409) §3; `elu + 1`: Katharopoulos et al. (arXiv 2006.16236) eq. 7.
#[derive(Module, Debug)]
pub struct AblatedTimeMix<B: Backend> {
    /// Raw decay, `[A]` or `[1]`, where it is no constant.
    pub time_decay: Option<Param<Tensor<B, 1>>>,
    /// Bonus, `[A]`.
    pub time_first: Option<Param<Tensor<B, 1>>>,
    /// Share of the current token in the key path.
    pub time_mix_k: Option<Param<Tensor<B, 3>>>,
    /// Share of the current token in the value path.
    pub time_mix_v: Option<Param<Tensor<B, 3>>>,
    /// Share of the current token in the receptance path.
    pub time_mix_r: Option<Param<Tensor<B, 3>>>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_r`, from `C` to `A`.
    pub receptance: Option<Projection<B>>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    /// RWKV-4b's attention.
    pub tiny: Option<TinyAttention<B>>,
    #[module(skip)]
    settings: AblatedTimeMixSettings,
}

impl MixerSettings for AblatedTimeMixSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        let own = |name, shape: &[usize]| Some(Parameter::new(name, shape, None));
        let mix = |name| self.token_shift.parameter(name, config);
        let gated = self.receptance != Receptance::None;
        let parameters = [
            match self.decay {
                Decay::Learned | Decay::Fixed => own("time_decay", &[a]),
                Decay::Shared => own("time_decay", &[1]),
                Decay::None | Decay::Schedule => None,
            },
            (self.bonus == Bonus::Learned).then(|| Parameter::new("time_first", [a], None)),
            mix("time_mix_k"),
            mix("time_mix_v"),
            if gated { mix("time_mix_r") } else { None },
            own("key.weight", &[a, c]),
            own("value.weight", &[a, c]),
            if gated { own("receptance.weight", &[a, c]) } else { None },
            own("output.weight", &[c, a]),
        ];
        let tiny = tiny_attention::parameters(self.tiny_attention, self.token_shift, config);
        parameters.into_iter().flatten().chain(tiny).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        match self.tiny_attention {
            0 => Memory::wkv(config.dim_att),
            // The slots of the attention, which grow in front, and WKV's three rows at the end.
            size => Memory {
                rows: vec![0.0, 0.0, 0.0, EMPTY_EXPONENT],
                columns: config.dim_att.max(2 * size + 1),
                grows: true,
            },
        }
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        super::mixer::projections(&self.parameters(config)) + self.tiny_attention as f64 * (ctx_len as f64 + 1.0)
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        self.token_shift.validate(config)
    }
}

impl<B: Backend> Mixer<B> for AblatedTimeMix<B> {
    type Settings = AblatedTimeMixSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: AblatedTimeMixSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let shift = settings.token_shift;
        let gated = settings.receptance != Receptance::None;
        let decay = match settings.decay {
            Decay::Learned | Decay::Fixed => Some(a),
            Decay::Shared => Some(1),
            Decay::None | Decay::Schedule => None,
        };
        Self {
            time_decay: decay.map(|size| init.tensor(&format!("{name}.time_decay"), [size])),
            time_first: (settings.bonus == Bonus::Learned).then(|| init.tensor(&format!("{name}.time_first"), [a])),
            time_mix_k: shift.mu(init, name, "time_mix_k"),
            time_mix_v: shift.mu(init, name, "time_mix_v"),
            time_mix_r: if gated { shift.mu(init, name, "time_mix_r") } else { None },
            key: Projection::new(init, &format!("{name}.key"), c, a),
            value: Projection::new(init, &format!("{name}.value"), c, a),
            receptance: gated.then(|| Projection::new(init, &format!("{name}.receptance"), c, a)),
            output: Projection::new(init, &format!("{name}.output"), a, c),
            tiny: (settings.tiny_attention > 0).then(|| TinyAttention::new(init, name, settings.tiny_attention, shift)),
            settings,
        }
    }

    fn settings(&self) -> AblatedTimeMixSettings {
        self.settings
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, value, receptance, output, tiny, .. } = self;
        let mut found = vec![("key", key), ("value", value), ("output", output)];
        found.extend(receptance.as_mut().map(|matrix| ("receptance", matrix)));
        found.extend(tiny.iter_mut().flat_map(TinyAttention::projections_mut));
        found
    }
}

impl<B: RwkvBackend> MixesSequences<B> for AblatedTimeMix<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let shift = self.settings.token_shift;
        let mu = [&self.time_mix_k, &self.time_mix_v, &self.time_mix_r];
        let [x_k, x_v, x_r] = shifted(mu, shift, &x, &last);
        let (x_k, x_v) = (at("shift_k", x_k), at("shift_v", x_v));
        let k = at("key", self.key.forward(x_k));
        let k = match self.settings.key {
            Key::Exp => k,
            // ln(elu(k) + 1), so that WKV's exponential gives elu(k) + 1.
            Key::Linear => k.clone().clamp_min(0.0).log1p() + k.clamp_max(0.0),
        };
        let v = at("value", self.value.forward(x_v));
        let (state, slots) = self.split(memory);
        let (y, state) = wkv(self.decay(&state), self.bonus(&state), k, v, state);
        let y = at("wkv", y);
        let y = match &self.receptance {
            None => y,
            Some(receptance) => {
                let x_r = at("shift_r", x_r);
                let r = at("receptance", receptance.forward(x_r));
                if self.settings.receptance == Receptance::Tanh { r.tanh() * y } else { gate(r, y) }
            }
        };
        let y = at("output", self.output.forward(y));
        match (&self.tiny, slots) {
            (Some(tiny), Some(slots)) => {
                let (tiny, slots) = tiny.forward(&x, &last, slots, shift);
                let columns = self.settings.memory_columns(state.dims()[2]);
                let memory = Tensor::cat(vec![widened(slots, columns), widened(state, columns)], 1);
                (y + at("tiny", tiny), last_token(x), memory)
            }
            _ => (y, last_token(x), state),
        }
    }
}

impl AblatedTimeMixSettings {
    fn memory_columns(&self, channels: usize) -> usize {
        channels.max(2 * self.tiny_attention + 1)
    }
}

impl<B: Backend> AblatedTimeMix<B> {
    /// WKV's state, and the slots of the attention where there is one.
    fn split(&self, memory: Tensor<B, 3>) -> (Tensor<B, 3>, Option<Tensor<B, 3>>) {
        let size = self.settings.tiny_attention;
        if size == 0 {
            return (memory, None);
        }
        let rows = memory.dims()[1];
        let state = memory.clone().narrow(1, rows - 3, 3).narrow(2, 0, Mixer::size(self));
        (state, Some(memory.narrow(1, 0, rows - 3).narrow(2, 0, cache::empty(2 * size).columns)))
    }

    fn decay(&self, state: &Tensor<B, 3>) -> Tensor<B, 1> {
        let channels = state.dims()[2];
        match (&self.time_decay, self.settings.decay) {
            (Some(decay), Decay::Shared) => decay.val().expand([channels]),
            (Some(decay), Decay::Fixed) => decay.val().detach(),
            (Some(decay), _) => decay.val(),
            (None, Decay::Schedule) => {
                // time_decay = ln(−w)
                let raw = |h| -8.0 * (h as f32 + 1.0) / channels as f32 * std::f32::consts::LN_2;
                constant((0..channels).map(raw).collect(), state)
            }
            // The exponential of this is 0.
            (None, _) => constant(vec![-1e4; channels], state),
        }
    }

    fn bonus(&self, state: &Tensor<B, 3>) -> Tensor<B, 1> {
        match &self.time_first {
            Some(first) => first.val(),
            None => constant(vec![0.0; state.dims()[2]], state),
        }
    }
}

fn constant<B: Backend>(values: Vec<f32>, like: &Tensor<B, 3>) -> Tensor<B, 1> {
    let size = values.len();
    Tensor::from_data(TensorData::new(values, [size]), (&like.device(), DType::F32))
}

/// Zeros at the end of the rows, up to so many columns.
fn widened<B: Backend>(rows: Tensor<B, 3>, columns: usize) -> Tensor<B, 3> {
    let [batch, count, size] = rows.dims();
    match columns - size {
        0 => rows,
        missing => {
            let zeros = Tensor::zeros([batch, count, missing], (&rows.device(), rows.dtype()));
            Tensor::cat(vec![rows, zeros], 2)
        }
    }
}
