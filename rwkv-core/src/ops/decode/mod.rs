//! One token through all of RWKV-4 at once: decoding without an operation for every step of it.
//!
//! A token's arithmetic is small; what it costs is reading the weights. As separate operations a block is some thirty tensors
//! and, on a CPU, seven parallel loops, which took as long as reading `int8` weights does; here the threads meet four times a
//! block. On a GPU, without kernel fusion, it is four launches a block instead of some twenty.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cpu")]
mod crew;
#[cfg(feature = "cube")]
pub(super) mod cube;

use super::packed::PackedMatrix;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Up to so many sequences are decoded at once; more are better served by matrix products.
pub const MAX_BATCH: usize = 4;

/// A matrix of the model, as the backend keeps it.
#[derive(Debug)]
pub enum DecodeMatrix<'a, B: Backend> {
    /// `[out, in]`, where tensors are in main memory.
    Packed(&'a PackedMatrix),
    /// `[in, out_i]`, elsewhere: all outputs, one tensor after the other; one tensor but where it would be too large.
    Tensors(Vec<FloatTensor<B>>),
}

impl<'a, B: Backend> DecodeMatrix<'a, B> {
    /// The packed matrix, if it is one.
    #[must_use]
    pub fn packed(&self) -> Option<&'a PackedMatrix> {
        match self {
            Self::Packed(matrix) => Some(matrix),
            Self::Tensors(_) => None,
        }
    }
}

/// What a token reads of a block.
#[derive(Debug)]
pub struct DecodeBlock<'a, B: Backend> {
    /// Weight and bias of `ln1`, each `[C]`.
    pub ln1: [FloatTensor<B>; 2],
    /// Weight and bias of `ln2`, each `[C]`.
    pub ln2: [FloatTensor<B>; 2],
    /// `time_mix_k`, `_v` and `_r` of the time-mix, each `[1, 1, C]`.
    pub att_mix: [FloatTensor<B>; 3],
    /// `time_decay`, `[A]`: the logarithm of the decay is `−exp` of it.
    pub time_decay: FloatTensor<B>,
    /// `time_first`, `[A]`.
    pub time_first: FloatTensor<B>,
    /// Key, value and receptance of the time-mix, from `C` to `A`.
    pub att: [DecodeMatrix<'a, B>; 3],
    /// The time-mix's output, from `A` to `C`.
    pub att_output: DecodeMatrix<'a, B>,
    /// `time_mix_k` and `_r` of the channel-mix, each `[1, 1, C]`.
    pub ffn_mix: [FloatTensor<B>; 2],
    /// The channel-mix's key, from `C` to `F`.
    pub ffn_key: DecodeMatrix<'a, B>,
    /// The channel-mix's receptance, from `C` to `C`.
    pub ffn_receptance: DecodeMatrix<'a, B>,
    /// The channel-mix's value, from `F` to `C`.
    pub ffn_value: DecodeMatrix<'a, B>,
    /// What the stream is multiplied by after the block: 1, or ½ where deep models are rescaled in `f16`.
    pub scale: f32,
}

/// What a token reads of the model, and what is known of the tokens before.
#[derive(Debug)]
pub struct DecodeInputs<'a, B: Backend> {
    /// The stream that enters the first block, after `ln0`: `[B, C]`, of at most [`MAX_BATCH`] rows.
    pub x: FloatTensor<B>,
    /// `att_x` and `ffn_x`, `[B, C]`, and the WKV state, `[B, 3, A]`, of every block.
    pub state: Vec<[FloatTensor<B>; 3]>,
    /// The blocks.
    pub blocks: Vec<DecodeBlock<'a, B>>,
    /// Weight and bias of `ln_out`, each `[C]`.
    pub ln_out: [FloatTensor<B>; 2],
    /// The head, from `C` to `V`.
    pub head: DecodeMatrix<'a, B>,
    /// Added to the variance in every layer norm.
    pub epsilon: f64,
}

/// What comes of a token.
#[derive(Debug)]
pub struct DecodeOutputs<B: Backend> {
    /// `[B, V]`.
    pub logits: FloatTensor<B>,
    /// As [`DecodeInputs::state`], after the token.
    pub state: Vec<[FloatTensor<B>; 3]>,
}
