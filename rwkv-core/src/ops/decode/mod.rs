//! One token through all of RWKV-4 at once, where the weights are [packed](super::packed): decoding without an operation for
//! every step of it.
//!
//! A token's arithmetic is small; what it costs is reading the weights. As separate operations a block is some thirty tensors
//! and seven parallel loops, which took as long as reading `int8` weights does. Here the threads meet four times a block.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cpu")]
mod crew;

use super::packed::PackedMatrix;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Up to so many sequences are decoded at once; more are better served by matrix products.
pub const MAX_BATCH: usize = 4;

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
    /// Key, value and receptance of the time-mix, each `[A, C]`.
    pub att: [&'a PackedMatrix; 3],
    /// The time-mix's output, `[C, A]`.
    pub att_output: &'a PackedMatrix,
    /// `time_mix_k` and `_r` of the channel-mix, each `[1, 1, C]`.
    pub ffn_mix: [FloatTensor<B>; 2],
    /// The channel-mix's key, `[F, C]`.
    pub ffn_key: &'a PackedMatrix,
    /// The channel-mix's receptance, `[C, C]`.
    pub ffn_receptance: &'a PackedMatrix,
    /// The channel-mix's value, `[C, F]`.
    pub ffn_value: &'a PackedMatrix,
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
    /// The head, `[V, C]`.
    pub head: &'a PackedMatrix,
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
