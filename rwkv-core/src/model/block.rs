//! One block: time-mix, then channel-mix, each on a normalised input and added to the residual stream.

use super::hooks::Hook;
use super::init::Initializer;
use super::layers::{layer_norm, normalise};
use super::mixers::{ChannelMixer, LinearTinyAttention, SequenceMixer, Shell};
use super::restarts::LayerRestarts;
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
/// In the shell of GPT-NeoX both mixers read the same stream instead: `x ← x + att(ln1(x)) + ffn(ln2(x))`, without `ln0`.
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
    /// The time-mix, or what is in its place.
    pub att: SequenceMixer<B>,
    /// The channel-mix, or what is in its place.
    pub ffn: ChannelMixer<B>,
    /// RWKV-4a's tiny attention, for comparisons; RWKV-4 has none.
    pub tiny: Option<LinearTinyAttention<B>>,
    #[module(skip)]
    shell: Shell,
}

impl<B: Backend> Block<B> {
    pub(super) fn new(init: &Initializer<'_, B>, layer: usize) -> Self {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        let shell = init.config.mixers.shell;
        Self {
            ln0: (layer == 0 && shell == Shell::Rwkv4).then(|| layer_norm(init, &name("ln0"))),
            ln1: layer_norm(init, &name("ln1")),
            ln2: layer_norm(init, &name("ln2")),
            att: SequenceMixer::make(init, &name("att"), init.config.mixers.sequence),
            ffn: ChannelMixer::make(init, &name("ffn"), init.config.mixers.channel),
            tiny: init
                .config
                .mixers
                .tiny_attention_at(layer)
                .map(|tiny| LinearTinyAttention::new(init, &name("tiny"), tiny.size)),
            shell,
        }
    }

    pub(super) fn shell(&self) -> Shell {
        self.shell
    }
}

impl<B: RwkvBackend> Block<B> {
    /// Runs the block, the one of this number, over a sequence.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - `emb`: `[B, T, C]`, the embeddings; only a tiny attention reads them
    /// - `state`: the layer's state before `x`
    /// - `restarts`: where rows start anew, if any do
    /// - returns `[B, T, C]` and the state after it
    ///
    /// # Panics
    /// When the block has a tiny attention and there is no `emb`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        emb: Option<&Tensor<B, 3>>,
        state: LayerState<B>,
        layer: usize,
        restarts: Option<LayerRestarts<'_, B>>,
        hook: &mut impl Hook<B>,
    ) -> (Tensor<B, 3>, LayerState<B>) {
        let LayerState { att_x, ffn_x, memory } = state;
        let [_, rows, _] = memory.dims();
        let of_att = rows - self.tiny.as_ref().map_or(0, LinearTinyAttention::size);
        let memory_of_tiny = self.tiny.is_some().then(|| memory.clone().narrow(1, of_att, rows - of_att));
        let memory = if self.tiny.is_some() { memory.narrow(1, 0, of_att) } else { memory };
        let x = match &self.ln0 {
            Some(ln0) => hook.at(format_args!("blocks.{layer}.ln0"), normalise(ln0, x)),
            None => x,
        };
        let y = hook.at(format_args!("blocks.{layer}.ln1"), normalise(&self.ln1, x.clone()));
        let mut at = |name: &str, y| hook.at(format_args!("blocks.{layer}.att.{name}"), y);
        let (mixed, att_x, memory) =
            self.att.forward(y, att_x, memory, restarts.map(|restarts| restarts.rows(0, of_att)), &mut at);
        let read = (self.shell == Shell::GptNeoX).then(|| x.clone());
        let x = hook.at(format_args!("blocks.{layer}.att"), x + mixed);
        let read = read.unwrap_or_else(|| x.clone());
        let y = hook.at(format_args!("blocks.{layer}.ln2"), normalise(&self.ln2, read));
        let mut at = |name: &str, y| hook.at(format_args!("blocks.{layer}.ffn.{name}"), y);
        let (mixed, ffn_x) = self.ffn.forward(y, ffn_x, restarts, &mut at);
        let mut x = x + mixed;
        let mut memory = memory;
        if let (Some(tiny), Some(state)) = (&self.tiny, memory_of_tiny) {
            let emb = emb.expect("a tiny attention reads the embeddings");
            let restarts = restarts.map(|restarts| restarts.rows(of_att, rows - of_att));
            let (carried, state) = tiny.forward(x.clone(), emb.clone(), state, restarts);
            x = x + hook.at(format_args!("blocks.{layer}.tiny"), carried);
            memory = Tensor::cat(vec![memory, state], 1);
        }
        (hook.at(format_args!("blocks.{layer}"), x), LayerState { att_x, ffn_x, memory })
    }
}
