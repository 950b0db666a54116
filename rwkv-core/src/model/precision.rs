//! How a model that runs, and is not trained, holds its weights.

use crate::error::Error;
use crate::ops::packed::Packing;
use burn::tensor::DType;
use std::str::FromStr;

/// The numbers of the matrices and of the embedding table. Everything else — layer norms, `time_*`, the WKV state and its
/// arithmetic, logits — is `f32` always.
///
/// Where tensors are in main memory, weights are [packed](crate::ops::packed): fewer bits take less memory and time, and the
/// arithmetic is `f32` but for one choice below. Elsewhere the matrices and the residual stream are tensors of that dtype, as far
/// as the device has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 4 bytes a weight.
    #[default]
    F32,
    /// 2 bytes a weight. On a device whose activations are `f16` too, the residual stream would overflow in deep models:
    /// the weights that feed it are divided by `2^⌊layer/6⌋`, and it is halved after every 6 layers. Layer norms undo that,
    /// but for the ε in them. A key of the channel-mix above 256 still overflows when it is squared, save in a step of up to four
    /// sequences, which keeps all between the matrices in `f32`; `Bf16` has no such limit.
    F16,
    /// 2 bytes a weight, with the range of `f32`: what published checkpoints are stored in.
    Bf16,
    /// [`Bf16`](Self::Bf16), and in main memory too a product with more than four rows of activations — a prompt, a text to
    /// be scored — rounds them to `bf16`, as PyTorch does: one product where [`Bf16`](Self::Bf16) takes three on processors
    /// with AMX, less of an operation on some with AVX512-BF16 (`BENCHMARKS.md`), and less exact everywhere. Sums stay `f32`, and so does a step of up to four sequences.
    Bf16Products,
    /// One byte a weight and a scale a row; the embedding table is `bf16`. In main memory only.
    Int8,
}

/// Layers between two halvings of the residual stream in `f16`, as in the official inference code.
const RESCALE_EVERY: usize = 6;

impl Precision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Bf16Products, Self::Int8];

    /// The name that programs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Bf16Products => "bf16-products",
            Self::Int8 => "int8",
        }
    }

    /// How a matrix of this precision is packed.
    #[must_use]
    pub fn packing(self) -> Packing {
        match self {
            Self::F32 => Packing::F32,
            Self::F16 => Packing::F16,
            Self::Bf16 => Packing::Bf16,
            Self::Bf16Products => Packing::Bf16Products,
            Self::Int8 => Packing::Int8,
        }
    }

    /// The dtype of a tensor of this precision; nothing for `int8`, which no tensor here has.
    #[must_use]
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::Bf16 | Self::Bf16Products => Some(DType::BF16),
            Self::Int8 => None,
        }
    }

    /// Layers between two halvings of the residual stream where activations have this precision; 0 for none.
    #[must_use]
    pub fn rescale_every(self) -> usize {
        if self == Self::F16 { RESCALE_EVERY } else { 0 }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| Error::config("dtype", "f32, f16, bf16, bf16-products or int8", name))
    }
}

/// Whether the residual stream is halved after this layer.
pub(super) fn halves_after(layer: usize, rescale_every: usize) -> bool {
    rescale_every > 0 && (layer + 1).is_multiple_of(rescale_every)
}

/// What the matrix of this official name is divided by, so that the halved stream gets what it expects: `2^⌊layer/every⌋`
/// for the two that feed it, 1 for all others.
pub(crate) fn divisor(name: &str, rescale_every: usize) -> f32 {
    let feeds = name.ends_with(".att.output.weight") || name.ends_with(".ffn.value.weight");
    let layer = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    match layer {
        Some(layer) if feeds && rescale_every > 0 => 2f32.powi((layer / rescale_every) as i32),
        _ => 1.0,
    }
}
