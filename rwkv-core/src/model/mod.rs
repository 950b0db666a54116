//! The RWKV-4 model: [`Rwkv`], its blocks and how it starts.
//!
//! Fields carry the official names, so that a parameter's path in the module is its name in a checkpoint.

mod block;
mod channel_mix;
pub mod init;
mod layers;
mod names;
mod time_mix;
mod token_shift;

pub use block::Block;
pub use channel_mix::ChannelMix;
pub use time_mix::TimeMix;
pub use token_shift::TokenShift;

use crate::config::RwkvConfig;
use crate::ops::RwkvBackend;
use crate::state::State;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use init::Initializer;

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
    /// From `C` to `V`; not tied to the embedding.
    pub head: Linear<B>,
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
        let mut emb = EmbeddingConfig::new(config.vocab_size, config.n_embd).init(device);
        emb.weight = init.tensor("emb.weight", [config.vocab_size, config.n_embd]);
        Self {
            emb,
            blocks: (0..config.n_layer).map(|layer| Block::new(&init, layer)).collect(),
            ln_out: layers::layer_norm(&init, "ln_out"),
            head: layers::linear(&init, "head", config.n_embd, config.vocab_size),
        }
    }

    /// The sizes, read from the parameters' shapes. `emb_init_scale`, which matters only before training, is the default.
    #[must_use]
    pub fn config(&self) -> RwkvConfig {
        let [vocab_size, n_embd] = self.emb.weight.lazy_shape().dims();
        let mut config = RwkvConfig::new(vocab_size, self.blocks.len(), n_embd);
        if let Some(block) = self.blocks.first() {
            [config.dim_att] = block.att.time_decay.lazy_shape().dims();
            [_, config.dim_ffn] = block.ffn.key.weight.lazy_shape().dims();
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
        count.0
    }

    /// The state before any token, for `batch` sequences.
    #[must_use]
    pub fn zero_state(&self, batch: usize) -> State<B> {
        State::zeros(&self.config(), batch, &self.emb.weight.lazy_device())
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
        let (x, state) = self.hidden(tokens, state);
        (layers::project(&self.head, self.ln_out.forward(x)), state)
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
        let (x, state) = self.hidden(tokens, state);
        let [batch, time, width] = x.dims();
        let x = x.narrow(1, time - 1, 1).reshape([batch, width]);
        (self.head.forward(self.ln_out.forward(x)), state)
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
        self.hidden(tokens, state).1
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
        self.forward_last(token.unsqueeze_dim(1), state)
    }

    /// The residual stream after the last block, `[B, T, C]`.
    fn hidden(&self, tokens: Tensor<B, 2, Int>, state: State<B>) -> (Tensor<B, 3>, State<B>) {
        let [batch, time] = tokens.dims();
        assert!(time > 0, "the model needs at least one token");
        assert_eq!(state.batch(), batch, "the state's batch is not that of the tokens");
        assert_eq!(state.layers.len(), self.blocks.len(), "the state's layers are not those of the model");
        let mut x = self.emb.forward(tokens);
        let mut layers = Vec::with_capacity(self.blocks.len());
        for (block, layer) in self.blocks.iter().zip(state.layers) {
            let (y, layer) = block.forward(x, layer);
            x = y;
            layers.push(layer);
        }
        (x, State { layers })
    }
}
