//! What may stand in the place of RWKV-4's time-mix and channel-mix, for comparisons in one shell.
//!
//! A block has a sequence mixer and a channel mixer. RWKV-4's own are the [`TimeMix`] and the [`ChannelMix`]; whoever reads
//! those needs nothing of this folder. The others live here, one file each, so that embedding, training loop, data, loss and
//! reports are shared and a comparison changes one thing.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the lists: [`SequenceMixer`] and [`ChannelMixer`], one line a mixer |
//! | `kinds.rs` | [`Mixers`]: the choice, as configuration |
//! | `mixer.rs` | what a mixer must say of itself: [`MixerSettings`], [`Parameter`], [`Memory`] |
//! | `registry.rs` | makes enums of the lists |
//! | `cache.rs` | the memory of mixers that look at every token again |
//! | `division.rs` | division whose gradient is exact on every backend |
//! | `rwkv4.rs` | RWKV-4's own parts as mixers |
//! | `ablated_*.rs` | RWKV-4's parts with switches: [`AblatedTimeMix`], [`AblatedChannelMix`], [`TokenShift`] |
//! | `tiny_attention.rs` | the [`TinyAttention`] of RWKV-4b |
//! | `linear_tiny_attention.rs` | the [`LinearTinyAttention`] of RWKV-4a |
//! | `attention.rs` | [`Attention`]: causal attention with rotary positions |
//! | `s4d.rs` | [`S4d`]: a diagonal state space |
//! | `linear_attention.rs` | [`LinearAttention`]: attention without a softmax |
//! | `lstm.rs` | [`Lstm`]: long short-term memory |
//! | `lem.rs` | [`Lem`]: long expressive memory |
//! | `steps.rs` | a sequence as its steps, for mixers that need one after the other |
//! | `moe.rs` | [`MixtureOfExperts`]: some of many small channel mixers for each token |
//! | `mlp.rs` | [`Mlp`]: the Transformer's feed-forward layer |
//! | `aft_simple.rs`, `aft_full.rs`, `aft_local.rs`, `aft_conv.rs` | [`AftSimple`], [`AftFull`], [`AftLocal`], [`AftConv`]: Attention Free Transformers |
//! | `aft.rs` | what those have in common |
//! | `gmlp.rs` | [`Gmlp`]: causal spatial gating |
//! | `mlp_mixer.rs` | [`MlpMixer`]: causal token mixing |
//! | `running_mean.rs` | [`RunningMean`]: the example of how a mixer is added |
//! | `positions.rs` | entries of tables of positions, for the mixers that have such |

#![allow(clippy::large_enum_variant, reason = "a module cannot be boxed, and a model has few")]

mod ablated_channel_mix;
mod ablated_shift;
mod ablated_time_mix;
mod aft;
mod aft_conv;
mod aft_full;
mod aft_local;
mod aft_simple;
mod attention;
mod cache;
mod division;
mod gmlp;
mod kinds;
mod lem;
mod linear_attention;
mod linear_tiny_attention;
mod lstm;
mod mixer;
mod mlp;
mod mlp_mixer;
mod moe;
mod positions;
mod registry;
mod running_mean;
mod rwkv4;
mod s4d;
mod steps;
mod tiny_attention;

pub use ablated_channel_mix::{AblatedChannelMix, AblatedChannelMixSettings, Activation};
pub use ablated_shift::TokenShift;
pub use ablated_time_mix::{AblatedTimeMix, AblatedTimeMixSettings, Bonus, Decay, Key, Receptance};
pub use aft_conv::{AftConv, AftConvSettings};
pub use aft_full::{AftFull, AftFullSettings};
pub use aft_local::{AftLocal, AftLocalSettings};
pub use aft_simple::{AftSimple, AftSimpleSettings};
pub use attention::{Attention, AttentionSettings};
pub use gmlp::{Gmlp, GmlpSettings};
pub use kinds::{Mixers, Shell};
pub use lem::{Lem, LemSettings};
pub use linear_attention::{LinearAttention, LinearAttentionSettings};
pub use linear_tiny_attention::{LinearTinyAttention, TinyAttentionSettings};
pub use lstm::{Lstm, LstmSettings};
pub use mixer::{At, Memory, MixerSettings, Parameter};
pub use mlp::{Mlp, MlpSettings};
pub use mlp_mixer::{MlpMixer, MlpMixerSettings};
pub use moe::{MixtureOfExperts, MoeSettings, expert_usage};
pub use running_mean::{RunningMean, RunningMeanSettings};
pub use rwkv4::{ChannelMixSettings, TimeMixSettings};
pub use s4d::{S4d, S4dSettings};
pub use tiny_attention::TinyAttention;

use super::channel_mix::ChannelMix;
use super::init::{Initializer, Rule};
use super::projection::Projection;
use super::restarts::LayerRestarts;
use super::time_mix::TimeMix;
use crate::config::RwkvConfig;
use crate::ops::RwkvBackend;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mixer::{Mixer, MixesChannels, MixesSequences};

registry::mixers! {
    /// What looks back in time.
    kind SequenceMixerKind;
    /// A block's sequence mixer, officially `att`.
    mixer SequenceMixer;
    each each_sequence_mixer;
    /// RWKV-4's time-mix.
    Rwkv4 = "rwkv-4": TimeMix(TimeMixSettings);
    /// RWKV-4's time-mix with a switch for each of its parts.
    AblatedRwkv4 = "rwkv-4-ablated": AblatedTimeMix(AblatedTimeMixSettings);
    /// Causal attention with rotary positions.
    Attention = "attention": Attention(AttentionSettings);
    /// A diagonal state space.
    S4d = "s4d": S4d(S4dSettings);
    /// Attention without a softmax.
    LinearAttention = "linear-attention": LinearAttention(LinearAttentionSettings);
    /// Long short-term memory.
    Lstm = "lstm": Lstm(LstmSettings);
    /// Long expressive memory.
    Lem = "lem": Lem(LemSettings);
    /// An average weighted by keys alone.
    AftSimple = "aft-simple": AftSimple(AftSimpleSettings);
    /// An average weighted by keys and biases of pairs of positions.
    AftFull = "aft-full": AftFull(AftFullSettings);
    /// AFT-full with biases of near tokens alone.
    AftLocal = "aft-local": AftLocal(AftLocalSettings);
    /// An average weighted by keys and biases of distances.
    AftConv = "aft-conv": AftConv(AftConvSettings);
    /// gMLP's spatial gating.
    Gmlp = "gmlp": Gmlp(GmlpSettings);
    /// MLP-Mixer's token mixing.
    MlpMixer = "mlp-mixer": MlpMixer(MlpMixerSettings);
    /// The gated mean of all tokens so far.
    RunningMean = "running-mean": RunningMean(RunningMeanSettings);
}

impl<B: RwkvBackend> SequenceMixer<B> {
    /// Mixes over time. Intermediates go through `at` under their local names.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the input before `x`
    /// - `memory`: `[B, N, D]`, what the mixer knows of the inputs before `x`; `N` and `D` are its own
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]`, the new `last` and the new `memory`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        each_sequence_mixer!(self, mixer => match restarts {
            None => MixesSequences::forward(mixer, x, last, memory, at),
            Some(restarts) => mixer.forward_restarting(x, last, memory, restarts, at),
        })
    }

    /// RWKV-4's time-mix, if it is one.
    #[must_use]
    pub fn rwkv4(&self) -> Option<&TimeMix<B>> {
        match self {
            Self::Rwkv4(mixer) => Some(mixer),
            _ => None,
        }
    }
}

registry::mixers! {
    /// What mixes channels.
    kind ChannelMixerKind;
    /// A block's channel mixer, officially `ffn`.
    mixer ChannelMixer;
    each each_channel_mixer;
    /// RWKV-4's channel-mix.
    Rwkv4 = "rwkv-4": ChannelMix(ChannelMixSettings);
    /// RWKV-4's channel-mix with a switch for each of its parts.
    AblatedRwkv4 = "rwkv-4-ablated": AblatedChannelMix(AblatedChannelMixSettings);
    /// Two layers with biases and GELU between them.
    Mlp = "mlp": Mlp(MlpSettings);
    /// Some of many small channel mixers for each token.
    Moe = "moe": MixtureOfExperts(MoeSettings);
}

impl<B: RwkvBackend> ChannelMixer<B> {
    /// Mixes channels. Intermediates go through `at` under their local names.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the input before `x`
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]` and the new `last`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        each_channel_mixer!(self, mixer => MixesChannels::forward(mixer, x, last, restarts, at))
    }

    /// RWKV-4's channel-mix, if it is one.
    #[must_use]
    pub fn rwkv4(&self) -> Option<&ChannelMix<B>> {
        match self {
            Self::Rwkv4(mixer) => Some(mixer),
            _ => None,
        }
    }
}

/// How a parameter starts that is none of RWKV-4's, by its name without the block's.
pub(super) fn rule(local: &[&str], config: &RwkvConfig) -> Option<Rule> {
    let (settings, rest) = match local {
        ["emb" | "head", "weight"] if config.mixers.shell == Shell::GptNeoX => return Some(kinds::small_init(config)),
        ["att", rest @ ..] => (config.mixers.sequence.settings(), rest.join(".")),
        ["tiny", rest @ ..] => return linear_tiny_attention::rule(rest),
        ["ffn", rest @ ..] => (config.mixers.channel.settings(), rest.join(".")),
        _ => return None,
    };
    settings.parameters(config).into_iter().find(|parameter| parameter.name == rest)?.rule
}
