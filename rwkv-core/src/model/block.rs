//! One block: time-mix, then channel-mix, each on a normalised input and added to the residual stream.

use super::channel_mix::ChannelMix;
use super::hooks::Hook;
use super::init::Initializer;
use super::layers::{layer_norm, normalise};
use super::restarts::LayerRestarts;
use super::time_mix::TimeMix;
use crate::ops::RwkvBackend;
use crate::state::LayerState;
use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A block of the residual stream.
///
/// ```text
/// x ← ln0(x)                      (block 0 only)
/// x ← x + att(ln1(x))
/// x ← x + ffn(ln2(x))
/// ```
///
/// # Source
/// Reference §1.1; `Block` of the official code.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Normalises the embeddings; the first block has it.
    pub ln0: Option<LayerNorm<B>>,
    /// Normalises the time-mix's input.
    pub ln1: LayerNorm<B>,
    /// Normalises the channel-mix's input.
    pub ln2: LayerNorm<B>,
    /// The time-mix.
    pub att: TimeMix<B>,
    /// The channel-mix.
    pub ffn: ChannelMix<B>,
}

impl<B: Backend> Block<B> {
    pub(super) fn new(init: &Initializer<'_, B>, layer: usize) -> Self {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        Self {
            ln0: (layer == 0).then(|| layer_norm(init, &name("ln0"))),
            ln1: layer_norm(init, &name("ln1")),
            ln2: layer_norm(init, &name("ln2")),
            att: TimeMix::new(init, &name("att")),
            ffn: ChannelMix::new(init, &name("ffn")),
        }
    }
}

impl<B: RwkvBackend> Block<B> {
    /// Runs the block, the one of this number, over a sequence.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - `state`: the layer's state before `x`
    /// - `restarts`: where rows start anew, if any do
    /// - returns `[B, T, C]` and the state after it
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        state: LayerState<B>,
        layer: usize,
        restarts: Option<LayerRestarts<'_, B>>,
        hook: &mut impl Hook<B>,
    ) -> (Tensor<B, 3>, LayerState<B>) {
        let LayerState { att_x, ffn_x, wkv } = state;
        let x = match &self.ln0 {
            Some(ln0) => hook.at(format_args!("blocks.{layer}.ln0"), normalise(ln0, x)),
            None => x,
        };
        let y = hook.at(format_args!("blocks.{layer}.ln1"), normalise(&self.ln1, x.clone()));
        let (mixed, att_x, wkv) =
            self.att.forward(y, att_x, wkv, restarts, |name, y| hook.at(format_args!("blocks.{layer}.att.{name}"), y));
        let x = hook.at(format_args!("blocks.{layer}.att"), x + mixed);
        let y = hook.at(format_args!("blocks.{layer}.ln2"), normalise(&self.ln2, x.clone()));
        let (mixed, ffn_x) =
            self.ffn.forward(y, ffn_x, restarts, |name, y| hook.at(format_args!("blocks.{layer}.ffn.{name}"), y));
        (hook.at(format_args!("blocks.{layer}"), x + mixed), LayerState { att_x, ffn_x, wkv })
    }
}
