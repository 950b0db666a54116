//! A mixture of experts: some of many small channel mixers for each token.

use super::ChannelMixer;
use super::division::divided;
use super::kinds::small_init;
use super::mixer::{At, Mixer, MixerSettings, MixesChannels, Parameter};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::Rwkv;
use crate::model::hooks::Capture;
use crate::model::init::Initializer;
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::auxiliary::with_auxiliary;
use crate::ops::squared_relu::squared_relu;
use crate::ops::{RwkvBackend, inner_dtype};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Settings of [`MixtureOfExperts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoeSettings {
    /// How many experts there are, `n`. They share `dim_ffn` hidden units.
    pub experts: usize,
    /// How many of them a token goes to.
    pub top_k: usize,
    /// The weight of the load-balancing loss; 0 for none.
    pub balance: f64,
}

impl Default for MoeSettings {
    fn default() -> Self {
        Self { experts: 4, top_k: 2, balance: 0.01 }
    }
}

impl MixerSettings for MoeSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, f) = (config.n_embd, config.dim_ffn);
        vec![
            Parameter::new("router.weight", [self.experts, c], small_init(config)),
            Parameter::new("key.weight", [f, c], None),
            Parameter::new("value.weight", [c, f], None),
        ]
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        if self.experts == 0 {
            return Err(Error::config("experts", "a positive number", self.experts));
        }
        if self.experts > config.dim_ffn {
            let expected = format!("at most dim_ffn, {}: every expert needs a hidden unit", config.dim_ffn);
            return Err(Error::config("experts", expected, self.experts));
        }
        if self.top_k == 0 || self.top_k > self.experts {
            let expected = format!("a number from 1 to that of the experts, {}", self.experts);
            return Err(Error::config("top_k", expected, self.top_k));
        }
        if !(self.balance >= 0.0 && self.balance.is_finite()) {
            return Err(Error::config("balance", "a number that is not negative", self.balance));
        }
        Ok(())
    }
}

/// A mixture of experts: a router sends every token to `top_k` of `n` experts, and adds up what they say.
///
/// ```text
/// p = softmax(W_g·x)                       over n experts
/// g_e = p_e / Σ p over the top_k largest, 0 for all other experts
/// out = Σ_e g_e·V_e·max(K_e·x, 0)²
/// ```
///
/// The experts are RWKV-4's channel-mix without token shift and gate. They share `F` hidden units: unit `j` belongs to expert
/// `⌊j·n/F⌋`, so that experts differ by one unit at most and parameters grow with `F` as those of the channel-mix. At equal `F` a
/// token uses `top_k/n` of the units; `F = 4C·n/top_k` gives it as many as RWKV-4's.
///
/// **Cost.** All experts are computed for all tokens, and those not chosen are multiplied by 0: exact, without tokens dropped
/// for lack of room and without waiting for a GPU to say who goes where, at the price of a dense layer of `F` units. What is
/// counted as arithmetic is what is computed.
///
/// **Balance.** Left alone, routers send all tokens to a few experts. With `f_e` the share of expert `e` in all choices and `P_e`
/// the mean of `p_e`, over all tokens of a pass, `balance·n·Σ_e f_e·P_e` of each layer joins the gradients
/// ([`with_auxiliary`](crate::ops::auxiliary::with_auxiliary)); it is `balance` where all experts are used alike. It is no part
/// of the reported loss. Its factor is 1 in every backward pass: next to a loss that is the mean over a step's targets, the loss
/// of a step that is cut into `m` micro-batches, workers or chunks of time has `m·balance`, so divide `balance` by `m` for the
/// same pull. Without autodiff there is none of it.
///
/// A hook sees `router`, `[B, T, n]`: the weights `g`, 0 for experts that were not chosen. [`expert_usage`] counts them.
///
/// # Source
/// Shazeer et al., Outrageously large neural networks (arXiv 1701.06538), for the mixture; Fedus et al., Switch Transformers
/// (arXiv 2101.03961), eq. 4–6, for the balance, and Lepikhin et al. (arXiv 2006.16668), for more than one choice.
#[derive(Module, Debug)]
pub struct MixtureOfExperts<B: Backend> {
    /// `W_g`, from `C` to `n`.
    pub router: Projection<B>,
    /// `K_e` of all experts, from `C` to `F`.
    pub key: Projection<B>,
    /// `V_e` of all experts, from `F` to `C`.
    pub value: Projection<B>,
    #[module(skip)]
    settings: MoeSettings,
}

impl<B: Backend> Mixer<B> for MixtureOfExperts<B> {
    type Settings = MoeSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: MoeSettings) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        Self {
            router: matrix("router", c, settings.experts),
            key: matrix("key", c, f),
            value: matrix("value", f, c),
            settings,
        }
    }

    fn settings(&self) -> MoeSettings {
        self.settings
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { router, key, value, .. } = self;
        vec![("router", router), ("key", key), ("value", value)]
    }
}

impl<B: RwkvBackend> MixesChannels<B> for MixtureOfExperts<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        _restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let (dtype, inside) = (x.dtype(), inner_dtype(x.dtype()));
        let [_, units] = self.key.shape();
        let probabilities = softmax(self.router.forward(x.clone()).cast(inside), 2); // [B, T, n]
        let chosen = chosen(probabilities.clone().detach(), self.settings.top_k);
        let kept = probabilities.clone() * chosen.clone();
        let weights = at("router", divided(kept.clone(), kept.sum_dim(2)));
        let spread = weights.matmul(units_of_experts(self.settings.experts, units, inside, &x.device()).unsqueeze());
        let k = at("key", self.key.forward(x.clone()));
        let k = squared_relu(k) * spread.cast(dtype);
        let y = at("output", self.value.forward(k));
        let y = if self.settings.balance > 0.0 {
            with_auxiliary(y, imbalance(probabilities, chosen).mul_scalar(self.settings.balance))
        } else {
            y
        };
        (y, last_token(x))
    }
}

/// 1 for the `count` largest of every row, 0 for the others; of equal ones the first.
fn chosen<B: Backend>(mut left: Tensor<B, 3>, count: usize) -> Tensor<B, 3> {
    let [_, _, experts] = left.dims();
    let numbers = Tensor::<B, 1, Int>::arange(0..experts as i64, &left.device()).unsqueeze::<3>();
    let dims = left.dims();
    let mut chosen = left.zeros_like();
    // One after the other: sorting would wait for a GPU.
    for _ in 0..count {
        let best = left.clone().argmax(2).expand(dims);
        let best: Tensor<B, 3, Bool> = numbers.clone().expand(dims).equal(best);
        left = left.mask_fill(best.clone(), -1.0);
        chosen = chosen.mask_fill(best, 1.0);
    }
    chosen
}

/// `[n, F]`: 1 where the unit belongs to the expert.
fn units_of_experts<B: Backend>(experts: usize, units: usize, dtype: DType, device: &B::Device) -> Tensor<B, 2> {
    let of = |expert: usize| (0..units).map(move |unit| f32::from(u8::from(unit * experts / units == expert)));
    let values: Vec<f32> = (0..experts).flat_map(of).collect();
    Tensor::from_data(TensorData::new(values, [experts, units]), (device, dtype))
}

/// `n·Σ_e f_e·P_e`, `[1]`: 1 where experts are used alike, up to `n/top_k` where all tokens agree.
fn imbalance<B: Backend>(probabilities: Tensor<B, 3>, chosen: Tensor<B, 3>) -> Tensor<B, 1> {
    let [batch, time, experts] = probabilities.dims();
    let mean = |x: Tensor<B, 3>| x.reshape([batch * time, experts]).mean_dim(0);
    let shares = mean(chosen);
    let shares = divided(shares.clone(), shares.sum_dim(1));
    (shares * mean(probabilities)).sum().mul_scalar(experts as f64)
}

/// How the tokens of a text spread over the experts, for every layer that has some: the layer's number and, for each expert, its
/// share in all choices; the shares of a layer add up to 1.
///
/// # Shapes
/// - `tokens`: `[B, T]`
///
/// # Panics
/// As [`Rwkv::forward`].
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::{ChannelMixerKind, Mixers, MoeSettings, Rwkv, expert_usage};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let channel = ChannelMixerKind::Moe(MoeSettings { experts: 8, ..MoeSettings::default() });
/// let config = RwkvConfig { mixers: Mixers { channel, ..Mixers::default() }, ..RwkvConfig::new(65, 2, 32) };
/// let model = Rwkv::<B>::new(&config, 0, &Default::default());
/// let usage = expert_usage(&model, Tensor::<B, 2, Int>::from_data([[1, 2, 3]], &Default::default()));
/// for (layer, shares) in usage {
///     println!("layer {layer}: {shares:?}");
///     assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6);
/// }
/// # }
/// ```
#[must_use]
pub fn expert_usage<B: RwkvBackend>(model: &Rwkv<B>, tokens: Tensor<B, 2, Int>) -> Vec<(usize, Vec<f64>)> {
    let layers = model.blocks.iter().enumerate().filter(|(_, block)| matches!(block.ffn, ChannelMixer::Moe(_)));
    let names: Vec<(usize, String)> = layers.map(|(l, _)| (l, format!("blocks.{l}.ffn.router"))).collect();
    let mut capture = Capture::new(names.iter().map(|(_, name)| name.clone()));
    let batch = tokens.dims()[0];
    let _ = model.hidden(tokens, model.zero_state(batch), None, &mut capture);
    let shares = |weights: &Tensor<B, 3>| {
        let [batch, time, experts] = weights.dims();
        let used = weights.clone().greater_elem(0.0).float().reshape([batch * time, experts]).sum_dim(0);
        let used: Vec<f64> = used.into_data().iter::<f64>().collect();
        let all: f64 = used.iter().sum();
        used.into_iter().map(|count| count / all).collect()
    };
    names.iter().filter_map(|(l, name)| Some((*l, shares(capture.get(name)?)))).collect()
}
