//! The mean of all tokens so far: the simplest mixer there is, and the example of how one is added.

use super::division::divided;
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use crate::config::RwkvConfig;
use crate::model::init::Initializer;
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use crate::ops::gate::gate;
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// [`RunningMean`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningMeanSettings {}

/// The mean of all tokens so far, gated: what remains of WKV when neither keys nor decay tell tokens apart.
///
/// ```text
/// out_t = W_o·(σ(W_r·x_t) ⊙ 1/t·Σ_{s ≤ t} W_v·x_s)
/// ```
///
/// The memory is the sum so far and the number of its terms.
#[derive(Module, Debug)]
pub struct RunningMean<B: Backend> {
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_r`, from `C` to `A`.
    pub receptance: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
}

impl MixerSettings for RunningMeanSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        // They start as RWKV-4's parameters of the same names.
        let shapes = [("value.weight", [a, c]), ("receptance.weight", [a, c]), ("output.weight", [c, a])];
        shapes.map(|(name, shape)| Parameter::new(name, shape, None)).into()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::zeros(1, config.dim_att + 1)
    }
}

impl<B: Backend> Mixer<B> for RunningMean<B> {
    type Settings = RunningMeanSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: RunningMeanSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        Self { value: matrix("value", c, a), receptance: matrix("receptance", c, a), output: matrix("output", a, c) }
    }

    fn settings(&self) -> RunningMeanSettings {
        RunningMeanSettings {}
    }

    fn size(&self) -> usize {
        self.value.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { value, receptance, output } = self;
        vec![("value", value), ("receptance", receptance), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for RunningMean<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let [_, time, _] = x.dims();
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let v = at("value", self.value.forward(x.clone())).cast(inside);
        let r = at("receptance", self.receptance.forward(x.clone()));
        let channels = v.dims()[2];
        let sums = memory.clone().narrow(2, 0, channels) + v.cumsum(1); // [B, T, A]
        let counted = Tensor::<B, 1, Int>::arange(1..time as i64 + 1, &memory.device()).float().cast(inside);
        let counts = memory.narrow(2, channels, 1) + counted.reshape([1, time, 1]); // [B, T, 1]
        let mean = at("mean", divided(sums.clone(), counts.clone()).cast(dtype));
        let memory = Tensor::cat(vec![sums, counts], 2).narrow(1, time - 1, 1);
        (at("output", self.output.forward(gate(r, mean))), last_token(x), memory)
    }
}
