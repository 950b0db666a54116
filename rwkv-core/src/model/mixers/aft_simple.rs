//! AFT-simple: an average of all values so far, weighted by their keys alone.

use super::aft;
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use crate::config::RwkvConfig;
use crate::model::init::Initializer;
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::{RwkvBackend, wkv::wkv};
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// [`AftSimple`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AftSimpleSettings {}

impl MixerSettings for AftSimpleSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        aft::parameters(config)
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::wkv(config.dim_att)
    }
}

/// The Attention Free Transformer without position biases.
///
/// ```text
/// q, k, v = W_q·x, W_k·x, W_v·x
/// out_t = W_o·(σ(q_t) ⊙ Σ_{s ≤ t} e^{k_s} ⊙ v_s / Σ_{s ≤ t} e^{k_s})
/// ```
///
/// That is RWKV-4's time-mix without decay, bonus and token shift: it runs through [`wkv`](crate::ops::wkv::wkv), in the same
/// memory, and over texts of any length.
///
/// # Source
/// Zhai et al., An Attention Free Transformer (arXiv 2105.14103), §3.2, in its causal form. The paper says nothing of how the
/// projections start; here as RWKV-4's.
#[derive(Module, Debug)]
pub struct AftSimple<B: Backend> {
    /// `W_q`, from `C` to `A`.
    pub query: Projection<B>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
}

impl<B: Backend> Mixer<B> for AftSimple<B> {
    type Settings = AftSimpleSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: AftSimpleSettings) -> Self {
        let [query, key, value, output] = aft::projections(init, name);
        Self { query, key, value, output }
    }

    fn settings(&self) -> AftSimpleSettings {
        AftSimpleSettings {}
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { query, key, value, output } = self;
        vec![("query", query), ("key", key), ("value", value), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for AftSimple<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.average(x, memory, None, at)
    }

    fn forward_restarting(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        restarts: LayerRestarts<'_, B>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.average(x, memory, Some(restarts), at)
    }
}

impl<B: RwkvBackend> AftSimple<B> {
    fn average(
        &self,
        x: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let k = at("key", self.key.forward(x.clone()));
        let v = at("value", self.value.forward(x.clone()));
        let channels = k.dims()[2];
        // The decay is −exp of this, which is 0 in any dtype.
        let decay = Tensor::full([channels], -1e4, (&x.device(), DType::F32));
        let first = Tensor::zeros([channels], (&x.device(), DType::F32));
        let (y, memory) = match &restarts {
            None => wkv(decay, first, k, v, memory),
            Some(restarts) => restarts.wkv(&decay, &first, &k, &v, memory),
        };
        let y = aft::gated_output((&self.query, &self.output), &x, y, at);
        (y, last_token(x), memory)
    }
}
