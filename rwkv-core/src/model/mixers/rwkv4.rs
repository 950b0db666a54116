//! RWKV-4's own parts as mixers.

use super::mixer::{At, Memory, Mixer, MixerSettings, MixesChannels, MixesSequences, Parameter};
use crate::config::RwkvConfig;
use crate::model::channel_mix::ChannelMix;
use crate::model::init::Initializer;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::model::time_mix::TimeMix;
use crate::ops::RwkvBackend;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// [`TimeMix`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeMixSettings {}

impl MixerSettings for TimeMixSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        let vectors = ["time_decay", "time_first"].map(|name| Parameter::new(name, [a], None));
        let mixes = ["time_mix_k", "time_mix_v", "time_mix_r"].map(|name| Parameter::new(name, [1, 1, c], None));
        let read = ["key.weight", "value.weight", "receptance.weight"].map(|name| Parameter::new(name, [a, c], None));
        let written = [Parameter::new("output.weight", [c, a], None)];
        vectors.into_iter().chain(mixes).chain(read).chain(written).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::wkv(config.dim_att)
    }
}

impl<B: Backend> Mixer<B> for TimeMix<B> {
    type Settings = TimeMixSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: TimeMixSettings) -> Self {
        Self::new(init, name)
    }

    fn settings(&self) -> TimeMixSettings {
        TimeMixSettings {}
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        self.projections_mut()
    }
}

impl<B: RwkvBackend> MixesSequences<B> for TimeMix<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.forward(x, last, memory, None, at)
    }

    fn forward_restarting(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        restarts: LayerRestarts<'_, B>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.forward(x, last, memory, Some(restarts), at)
    }
}

/// [`ChannelMix`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelMixSettings {}

impl MixerSettings for ChannelMixSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, f) = (config.n_embd, config.dim_ffn);
        let mixes = ["time_mix_k", "time_mix_r"].map(|name| Parameter::new(name, [1, 1, c], None));
        let matrices = [("key.weight", [f, c]), ("receptance.weight", [c, c]), ("value.weight", [c, f])];
        mixes.into_iter().chain(matrices.map(|(name, shape)| Parameter::new(name, shape, None))).collect()
    }
}

impl<B: Backend> Mixer<B> for ChannelMix<B> {
    type Settings = ChannelMixSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: ChannelMixSettings) -> Self {
        Self::new(init, name)
    }

    fn settings(&self) -> ChannelMixSettings {
        ChannelMixSettings {}
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        self.projections_mut()
    }
}

impl<B: RwkvBackend> MixesChannels<B> for ChannelMix<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        self.forward(x, last, restarts, at)
    }
}
