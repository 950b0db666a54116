//! The RWKV-4 model: [`Rwkv`], its blocks and how it starts.
//!
//! Fields carry the official names, so that a parameter's path in the module is its name in a checkpoint.

mod block;
mod channel_mix;
mod decode;
mod hooks;
pub mod init;
mod layers;
mod lora;
pub(crate) mod mixers;
#[doc = include_str!("../../docs/adding-a-mixer.md")]
pub mod adding_a_mixer {}
pub(crate) mod names;
pub(crate) mod precision;
mod projection;
mod ratios;
mod restarts;
mod time_mix;

pub use block::Block;
pub use channel_mix::ChannelMix;
pub use hooks::{Capture, Hook, NoHook};
pub use lora::{Lora, LoraConfig, LoraTarget};
pub use mixers::{
    AblatedChannelMix, AblatedChannelMixSettings, AblatedTimeMix, AblatedTimeMixSettings, Activation, AftConv,
    AftConvSettings, AftFull, AftFullSettings, AftLocal, AftLocalSettings, AftSimple, AftSimpleSettings, At, Attention,
    AttentionSettings, Bonus, ChannelMixSettings, ChannelMixer, ChannelMixerKind, Decay, Gmlp, GmlpSettings, Key, Lem,
    LemSettings, LinearAttention, LinearAttentionSettings, LinearTinyAttention, Lstm, LstmSettings, Memory,
    MixerSettings, Mixers, MixtureOfExperts, Mlp, MlpMixer, MlpMixerSettings, MlpSettings, MoeSettings, Parameter,
    Receptance, RunningMean, RunningMeanSettings, S4d, S4dSettings, SequenceMixer, SequenceMixerKind, Shell,
    TimeMixSettings, TinyAttention, TinyAttentionSettings, TokenShift, expert_usage,
};
pub use precision::Precision;
pub use projection::{Embedding, Projection};
pub use ratios::InitRatios;
pub use restarts::{LayerRestarts, Restarts};
pub use time_mix::TimeMix;

use crate::config::RwkvConfig;
use crate::ops::{RwkvBackend, inner_dtype};
use crate::state::State;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::LayerNorm;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use init::Initializer;
use std::borrow::Cow;

/// An RWKV-4 language model.
///
/// It has two verbs that agree with each other: [`forward`](Self::forward) takes a sequence at once, for training and
/// for reading a prompt, and [`step`](Self::step) takes one token, for writing.
///
/// ```text
/// x = emb[token];   x = block_l(x) for l in 0..L;   logits = head·ln_out(x)
/// ```
///
/// # Source
/// Paper §4 and figure 2; reference §1.
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let config = RwkvConfig::new(65, 2, 32);
/// let model = Rwkv::<B>::new(&config, 0, &device);
/// let tokens = Tensor::<B, 2, Int>::from_data([[1, 2, 3]], &device);
/// let (logits, state) = model.forward(tokens, model.zero_state(1));
/// assert_eq!(logits.dims(), [1, 3, 65]);
/// let (logits, _state) = model.step(Tensor::from_data([4], &device), state);
/// assert_eq!(logits.dims(), [1, 65]);
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Rwkv<B: Backend> {
    /// The embedding table, `[V, C]`.
    pub emb: Embedding<B>,
    /// The blocks.
    pub blocks: Vec<Block<B>>,
    /// Normalises the last block's output.
    pub ln_out: LayerNorm<B>,
    /// From `C` to `V`. In RWKV-4 it is not tied to the embedding; where it is ([`Mixers::tied_head`]), there is none.
    pub head: Option<Projection<B>>,
    /// The residual stream is halved after every so many layers; never where it is 0. See [`Precision::F16`].
    #[module(skip)]
    rescale_every: usize,
    /// Of the adapters, where there are some.
    #[module(skip)]
    lora: Option<LoraConfig>,
}

impl<B: Backend> Rwkv<B> {
    /// A freshly initialised model; see [`init::Rule`].
    ///
    /// Weights are drawn when they are first used, so building a model of any size costs nothing until it runs, and
    /// nothing at all when a checkpoint replaces them.
    ///
    /// # Panics
    /// When [`RwkvConfig::validate`] refuses the sizes.
    #[must_use]
    pub fn new(config: &RwkvConfig, seed: u64, device: &B::Device) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        let init = Initializer { config, seed, device };
        Self {
            emb: Embedding::new(&init, "emb", config.vocab_size, config.n_embd),
            blocks: (0..config.n_layer).map(|layer| Block::new(&init, layer)).collect(),
            ln_out: layers::layer_norm(&init, "ln_out"),
            head: (!config.mixers.tied_head).then(|| Projection::new(&init, "head", config.n_embd, config.vocab_size)),
            rescale_every: 0,
            lora: None,
        }
    }

    /// The sizes and mixers, read from the parameters. `emb_init_scale`, which matters only before training, is the default.
    #[must_use]
    pub fn config(&self) -> RwkvConfig {
        let [vocab_size, n_embd] = self.emb.shape();
        let mut config = RwkvConfig::new(vocab_size, self.blocks.len(), n_embd);
        if let Some(block) = self.blocks.first() {
            (config.dim_att, config.dim_ffn) = (block.att.size(), block.ffn.size());
            config.mixers = Mixers {
                shell: block.shell(),
                sequence: block.att.kind(),
                channel: block.ffn.kind(),
                tied_head: self.head.is_none(),
                tiny_attention: self.blocks.iter().enumerate().find_map(|(layer, block)| {
                    block.tiny.as_ref().map(|tiny| TinyAttentionSettings { size: tiny.size(), layer })
                }),
            };
        }
        config
    }

    /// The number of parameters, counted from their shapes without allocating them.
    #[must_use]
    pub fn num_params_lazy(&self) -> usize {
        struct Count(usize);
        impl<B: Backend> ModuleVisitor<B> for Count {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                self.0 += param.lazy_shape().num_elements();
            }
        }
        let mut count = Count(0);
        self.visit(&mut count);
        let replaced = |is_parameter: bool, [a, b]: [usize; 2]| if is_parameter { 0 } else { a * b };
        let mut model = self.clone();
        let projections = model.projections_mut();
        let projections = projections.iter().map(|(_, matrix)| replaced(matrix.weight().is_some(), matrix.shape()));
        count.0 + projections.sum::<usize>() + replaced(self.emb.weight().is_some(), self.emb.shape())
    }

    /// Where the model runs.
    #[must_use]
    pub fn device(&self) -> B::Device {
        self.ln_out.gamma.lazy_device()
    }

    /// All projections by their weights' official names.
    pub(crate) fn projections_mut(&mut self) -> Vec<(String, &mut Projection<B>)> {
        let mut found = Vec::new();
        for (l, block) in self.blocks.iter_mut().enumerate() {
            let (att, ffn) = (block.att.projections_mut(), block.ffn.projections_mut());
            found.extend(att.into_iter().map(|(name, matrix)| (format!("blocks.{l}.att.{name}.weight"), matrix)));
            found.extend(ffn.into_iter().map(|(name, matrix)| (format!("blocks.{l}.ffn.{name}.weight"), matrix)));
            let tiny = block.tiny.iter_mut().flat_map(LinearTinyAttention::projections_mut);
            found.extend(tiny.map(|(name, matrix)| (format!("blocks.{l}.tiny.{name}.weight"), matrix)));
        }
        found.extend(self.head.as_mut().map(|head| ("head.weight".to_owned(), head)));
        found
    }

    /// Halves the residual stream after every so many layers, for weights that were divided accordingly.
    pub(crate) fn set_rescale_every(&mut self, layers: usize) {
        self.rescale_every = layers;
    }

    /// Layers between two halvings of the residual stream; 0 where there are none.
    pub(crate) fn rescale_every(&self) -> usize {
        self.rescale_every
    }

    /// Whether weights were packed, cut or rescaled: such a model computes, but cannot be trained or saved.
    #[must_use]
    pub fn only_runs(&self) -> bool {
        let mut model = self.clone();
        let replaced = model.projections_mut().iter().any(|(_, projection)| projection.weight().is_none());
        replaced || self.emb.weight().is_none() || self.rescale_every > 0
    }

    /// The state before any token, for `batch` sequences.
    #[must_use]
    pub fn zero_state(&self, batch: usize) -> State<B> {
        State::zeros(&self.config(), batch, &self.device())
    }
}

impl<B: RwkvBackend> Rwkv<B> {
    /// The time-parallel mode: logits of the next token at every position.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`, ids below the vocabulary's size, `T ≥ 1`
    /// - `state`: what came before, [`Self::zero_state`] at the beginning
    /// - returns `[B, T, V]` and the state after the last token
    ///
    /// # Panics
    /// When `T = 0` or the state's batch or layers are not those of `tokens` and the model.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, state: State<B>) -> (Tensor<B, 3>, State<B>) {
        self.forward_hooked(tokens, state, &mut NoHook)
    }

    /// [`Self::forward`] with a look at, or a hand in, its intermediates.
    ///
    /// # Shapes
    /// - as [`Self::forward`]
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_hooked(
        &self,
        tokens: Tensor<B, 2, Int>,
        state: State<B>,
        hook: &mut impl Hook<B>,
    ) -> (Tensor<B, 3>, State<B>) {
        B::burst(|| {
            let (x, state) = self.hidden(tokens, state, None, hook);
            (self.logits(x, hook), state)
        })
    }

    /// [`Self::forward`] for the last position alone, which is what a prompt needs: the head is the widest projection.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`
    /// - returns `[B, V]` and the state after the last token
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_last(&self, tokens: Tensor<B, 2, Int>, state: State<B>) -> (Tensor<B, 2>, State<B>) {
        B::burst(|| {
            let (x, state) = self.hidden(tokens, state, None, &mut NoHook);
            let time = x.dims()[1];
            (self.logits(x.narrow(1, time - 1, 1), &mut NoHook).squeeze_dim(1), state)
        })
    }

    /// Reads tokens for the state after them alone: [`Self::forward`] without the head.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`
    ///
    /// # Panics
    /// As [`Self::forward`].
    #[must_use]
    pub fn read(&self, tokens: Tensor<B, 2, Int>, state: State<B>) -> State<B> {
        B::burst(|| self.hidden(tokens, state, None, &mut NoHook).1)
    }

    /// The recurrent mode: logits after one more token, in time and memory that do not depend on how many came before.
    ///
    /// # Shapes
    /// - `token`: `[B]`
    /// - returns `[B, V]` and the new state
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn step(&self, token: Tensor<B, 1, Int>, state: State<B>) -> (Tensor<B, 2>, State<B>) {
        self.step_at_once(&token, &state).unwrap_or_else(|| self.step_hooked(token, state, &mut NoHook))
    }

    /// [`Self::step`] with a look at, or a hand in, its intermediates; always as separate operations.
    ///
    /// # Shapes
    /// - as [`Self::step`]
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn step_hooked(
        &self,
        token: Tensor<B, 1, Int>,
        state: State<B>,
        hook: &mut impl Hook<B>,
    ) -> (Tensor<B, 2>, State<B>) {
        let (logits, state) = self.forward_hooked(token.unsqueeze_dim(1), state, hook);
        (logits.squeeze_dim(1), state)
    }

    /// The residual stream after the last block: [`Self::forward`] without the head, and with restarts inside the rows.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`
    /// - returns `[B, T, C]` and the state after the last token
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn hidden(
        &self,
        tokens: Tensor<B, 2, Int>,
        state: State<B>,
        restarts: Option<&Restarts<B>>,
        hook: &mut impl Hook<B>,
    ) -> (Tensor<B, 3>, State<B>) {
        let [batch, time] = tokens.dims();
        assert!(time > 0, "the model needs at least one token");
        assert_eq!(state.batch(), batch, "the state's batch is not that of the tokens");
        assert_eq!(state.layers.len(), self.blocks.len(), "the state's layers are not those of the model");
        let mut x = self.embed(tokens, hook);
        let emb = self.blocks.iter().any(|block| block.tiny.is_some()).then(|| x.clone());
        let mut layers = Vec::with_capacity(self.blocks.len());
        for (l, (block, layer)) in self.blocks.iter().zip(state.layers).enumerate() {
            let (y, layer) = block.forward(x, emb.as_ref(), layer, l, restarts.map(|restarts| restarts.layer(l)), hook);
            x = if precision::halves_after(l, self.rescale_every) { y * 0.5 } else { y };
            layers.push(layer);
        }
        (x, State { layers })
    }

    /// The first stage of [`Self::hidden`]: `[B, T]` to `[B, T, C]`.
    pub fn embed(&self, tokens: Tensor<B, 2, Int>, hook: &mut impl Hook<B>) -> Tensor<B, 3> {
        hook.at(format_args!("emb"), self.emb.forward(tokens))
    }

    /// The training loss of the targets that follow each position, without the table of all logits: the sum of the
    /// cross-entropies, each times its weight, with L2Wrap in the gradient; see [`crate::ops::head_loss`].
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, from [`Self::hidden`]
    /// - `targets`, `weights`: `[B, T]`; weights of 1 where there are none
    /// - `chunk`: positions whose logits exist at the same time; 0 for all
    /// - returns `[1]`, in nats
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn head_loss(
        &self,
        x: Tensor<B, 3>,
        targets: Tensor<B, 2, Int>,
        weights: Option<Tensor<B, 2>>,
        l2_wrap: f32,
        chunk: usize,
        hook: &mut impl Hook<B>,
    ) -> Tensor<B, 1> {
        let x = hook.at(format_args!("ln_out"), layers::normalise(&self.ln_out, x));
        let [batch, time, width] = x.dims();
        let count = batch * time;
        let (x, targets) = (x.reshape([count, width]), targets.reshape([count]));
        let weights = weights.map(|weights| weights.reshape([count]));
        self.head().loss(x, targets, weights, l2_wrap, if chunk == 0 { count } else { chunk.min(count) })
    }

    /// What makes logits of the normalised stream: [`Self::head`](field@Self::head), or the embedding's table transposed.
    #[must_use]
    pub fn head(&self) -> Cow<'_, Projection<B>> {
        self.head.as_ref().map_or_else(|| Cow::Owned(self.emb.as_head()), Cow::Borrowed)
    }

    /// `[B, T, C]` to `[B, T, V]`, in the dtype of the arithmetic.
    fn logits(&self, x: Tensor<B, 3>, hook: &mut impl Hook<B>) -> Tensor<B, 3> {
        let x = hook.at(format_args!("ln_out"), layers::normalise(&self.ln_out, x));
        let dtype = inner_dtype(x.dtype());
        hook.at(format_args!("head"), self.head().forward(x).cast(dtype))
    }
}
