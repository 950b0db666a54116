//! What may stand in the place of RWKV-4's time-mix and channel-mix, for comparisons in one shell.
//!
//! A block has a sequence mixer and a channel mixer. RWKV-4's own are the [`TimeMix`] and the [`ChannelMix`]; whoever reads
//! those needs nothing of this folder. The others live here, one file each, with the same signatures, so that embedding,
//! training loop, data, loss and reports are shared and a comparison changes one thing.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`SequenceMixer`] and [`ChannelMixer`]: one of the kinds each |
//! | `kinds.rs` | [`Mixers`]: the choice, as configuration |
//! | `attention.rs` | [`Attention`]: causal attention with rotary positions and a cache of keys and values |
//! | `mlp.rs` | [`Mlp`]: the Transformer's feed-forward layer |
//!
//! # Adding a mixer
//! Write its module in a file here with `new`, `forward` and `projections_mut` as the others have them, and its initial
//! values as `rule`; then add a variant to the kind in `kinds.rs` and to the enum below, where the compiler asks for
//! the rest.

mod attention;
mod kinds;
mod mlp;

pub use attention::Attention;
pub(crate) use attention::empty_memory;
pub use kinds::{ChannelMixerKind, Mixers, SequenceMixerKind, Shell};
pub use mlp::Mlp;

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

/// A block's sequence mixer, officially `att`.
#[derive(Module, Debug)]
pub enum SequenceMixer<B: Backend> {
    /// RWKV-4's time-mix.
    Rwkv4(TimeMix<B>),
    /// Causal attention.
    Attention(Attention<B>),
}

/// A block's channel mixer, officially `ffn`.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a module cannot be boxed, and a model has few")]
pub enum ChannelMixer<B: Backend> {
    /// RWKV-4's channel-mix.
    Rwkv4(ChannelMix<B>),
    /// The Transformer's feed-forward layer.
    Mlp(Mlp<B>),
}

impl<B: Backend> SequenceMixer<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        match init.config.mixers.sequence {
            SequenceMixerKind::Rwkv4 => Self::Rwkv4(TimeMix::new(init, name)),
            SequenceMixerKind::Attention { n_head } => Self::Attention(Attention::new(init, name, n_head)),
        }
    }

    /// RWKV-4's time-mix, if it is one.
    #[must_use]
    pub fn rwkv4(&self) -> Option<&TimeMix<B>> {
        match self {
            Self::Rwkv4(mixer) => Some(mixer),
            _ => None,
        }
    }

    /// Its inner channels, `A`.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::Rwkv4(mixer) => mixer.key.shape()[1],
            Self::Attention(mixer) => mixer.key.shape()[1],
        }
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> SequenceMixerKind {
        match self {
            Self::Rwkv4(_) => SequenceMixerKind::Rwkv4,
            Self::Attention(mixer) => SequenceMixerKind::Attention { n_head: mixer.n_head() },
        }
    }

    /// Its matrices by their local names.
    pub(crate) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        match self {
            Self::Rwkv4(mixer) => mixer.projections_mut(),
            Self::Attention(mixer) => mixer.projections_mut(),
        }
    }
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
        at: impl FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        match self {
            Self::Rwkv4(mixer) => mixer.forward(x, last, memory, restarts, at),
            Self::Attention(mixer) => mixer.forward(x, memory, restarts, at),
        }
    }
}

impl<B: Backend> ChannelMixer<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        match init.config.mixers.channel {
            ChannelMixerKind::Rwkv4 => Self::Rwkv4(ChannelMix::new(init, name)),
            ChannelMixerKind::Mlp => Self::Mlp(Mlp::new(init, name)),
        }
    }

    /// RWKV-4's channel-mix, if it is one.
    #[must_use]
    pub fn rwkv4(&self) -> Option<&ChannelMix<B>> {
        match self {
            Self::Rwkv4(mixer) => Some(mixer),
            _ => None,
        }
    }

    /// Its hidden units, `F`.
    #[must_use]
    pub fn units(&self) -> usize {
        match self {
            Self::Rwkv4(mixer) => mixer.key.shape()[1],
            Self::Mlp(mixer) => mixer.key.shape()[1],
        }
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> ChannelMixerKind {
        match self {
            Self::Rwkv4(_) => ChannelMixerKind::Rwkv4,
            Self::Mlp(_) => ChannelMixerKind::Mlp,
        }
    }

    /// Its matrices by their local names.
    pub(crate) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        match self {
            Self::Rwkv4(mixer) => mixer.projections_mut(),
            Self::Mlp(mixer) => mixer.projections_mut(),
        }
    }
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
        at: impl FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        match self {
            Self::Rwkv4(mixer) => mixer.forward(x, last, restarts, at),
            Self::Mlp(mixer) => mixer.forward(x, at),
        }
    }
}

/// How a parameter starts that is none of RWKV-4's, by its name without the block's.
pub(super) fn rule(local: &[&str], config: &RwkvConfig) -> Option<Rule> {
    let Mixers { shell, sequence, channel } = config.mixers;
    match (local, shell, sequence, channel) {
        (["emb" | "head", "weight"], Shell::GptNeoX, ..) => Some(kinds::small_init(config)),
        (["att", rest @ ..], _, SequenceMixerKind::Attention { .. }, _) => attention::rule(rest, config),
        (["ffn", rest @ ..], .., ChannelMixerKind::Mlp) => mlp::rule(rest, config),
        _ => None,
    }
}
