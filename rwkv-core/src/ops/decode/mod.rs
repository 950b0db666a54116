//! One token through all of RWKV-4 at once: decoding without an operation for every step of it.
//!
//! A token's arithmetic is small; what it costs is reading the weights. As separate operations a block is some thirty tensors
//! and, on a CPU, seven parallel loops, which took as long as reading `int8` weights does; here the threads meet four times a
//! block. On a GPU it is four launches a block instead of some twenty.

mod block;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cpu")]
mod crew;
#[cfg(feature = "cube")]
pub(super) mod cube;
#[cfg(feature = "cpu")]
mod cut;
#[cfg(feature = "fusion")]
pub(super) mod fusion;

pub use block::DecodeBlock;

use super::packed::PackedMatrix;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

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

    /// The tensor, if it is one and not several.
    #[must_use]
    pub fn tensor(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Tensors(pieces) => pieces.first().filter(|_| pieces.len() == 1),
            Self::Packed(_) => None,
        }
    }
}

/// What a token reads of the model, and what is known of the tokens before.
#[derive(Debug)]
pub struct DecodeInputs<'a, B: Backend> {
    /// The stream that enters the first block, after `ln0`: `[B, C]`, of at most [`MAX_BATCH`] rows.
    pub x: FloatTensor<B>,
    /// The blocks.
    pub blocks: Vec<DecodeBlock<FloatTensor<B>, DecodeMatrix<'a, B>>>,
    /// Weight and bias of `ln_out`, each `[C]`.
    pub ln_out: [FloatTensor<B>; 2],
    /// The head, from `C` to `V`.
    pub head: DecodeMatrix<'a, B>,
    /// Added to the variance in every layer norm.
    pub epsilon: f64,
}

impl<B: Backend> DecodeInputs<'_, B> {
    /// Whether a step over tensors takes them: numbers beside the matrices are `f32`, every matrix of a block is one tensor,
    /// those that are read together have one dtype, and all blocks have the same widths; and there is a block.
    #[must_use]
    pub fn fit_kernels(&self) -> bool {
        let of_block = self.blocks.iter().flat_map(DecodeBlock::numbers);
        let numbers = of_block.chain(&self.ln_out).chain([&self.x]).all(|tensor| tensor.dtype() == DType::F32);
        let dtype = |matrix: &DecodeMatrix<'_, B>| matrix.tensor().map(TensorMetadata::dtype);
        let shapes = |block: &DecodeBlock<_, DecodeMatrix<'_, B>>| {
            block.matrices().map(|matrix| matrix.tensor().map(TensorMetadata::shape))
        };
        let first = self.blocks.first().map(shapes);
        let matrices = self.blocks.iter().all(|block| {
            let [key, value, receptance] = block.att.each_ref().map(dtype);
            let shapes = shapes(block);
            shapes.iter().all(Option::is_some)
                && key == value
                && key == receptance
                && dtype(&block.ffn_key) == dtype(&block.ffn_receptance)
                && Some(shapes) == first
        });
        numbers && matrices && first.is_some() && matches!(self.head, DecodeMatrix::Tensors(_))
    }
}

/// What comes of a token.
#[derive(Debug)]
pub struct DecodeOutputs<B: Backend> {
    /// `[B, V]`.
    pub logits: FloatTensor<B>,
    /// Of every block `att_x`, `ffn_x` and `memory` after the token.
    pub state: Vec<[FloatTensor<B>; 3]>,
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::ops::packed::Packing;
    use burn::backend::Flex;
    use burn::tensor::Tensor;

    type Inputs = DecodeInputs<'static, Flex>;

    fn numbers(shape: [usize; 2], dtype: DType) -> FloatTensor<Flex> {
        crate::ops::primitive(Tensor::<Flex, 2>::zeros(shape, (&Default::default(), dtype)))
    }

    fn matrix(rows: usize, columns: usize, dtype: DType) -> DecodeMatrix<'static, Flex> {
        DecodeMatrix::Tensors(vec![numbers([rows, columns], dtype)])
    }

    fn block(hidden: usize) -> DecodeBlock<FloatTensor<Flex>, DecodeMatrix<'static, Flex>> {
        let number = || numbers([1, 4], DType::F32);
        let square = || matrix(4, 4, DType::F16);
        DecodeBlock {
            ln1: [number(), number()],
            ln2: [number(), number()],
            att_mix: [number(), number(), number()],
            time_decay: number(),
            time_first: number(),
            att: [square(), square(), square()],
            att_output: square(),
            ffn_mix: [number(), number()],
            ffn_key: matrix(4, hidden, DType::F16),
            ffn_receptance: square(),
            ffn_value: matrix(hidden, 4, DType::F16),
            scale: 1.0,
            att_x: number(),
            ffn_x: number(),
            memory: number(),
        }
    }

    fn fit(change: impl FnOnce(&mut Inputs)) -> bool {
        let number = || numbers([1, 4], DType::F32);
        let mut inputs = DecodeInputs {
            x: number(),
            blocks: vec![block(8), block(8)],
            ln_out: [number(), number()],
            head: DecodeMatrix::Tensors(vec![numbers([4, 3], DType::F16), numbers([4, 2], DType::F16)]),
            epsilon: 1e-5,
        };
        change(&mut inputs);
        inputs.fit_kernels()
    }

    #[test]
    fn only_what_kernels_take_fits() {
        assert!(fit(|_| ()), "matrices of another dtype, a head in pieces");
        assert!(fit(|inputs| inputs.blocks[1].att_output = matrix(4, 4, DType::F32)), "read alone");
        assert!(!fit(|inputs| inputs.x = numbers([1, 4], DType::F16)));
        assert!(!fit(|inputs| inputs.ln_out[1] = numbers([1, 4], DType::F64)));
        assert!(!fit(|inputs| inputs.blocks[1].memory = numbers([1, 4], DType::F16)));
        assert!(!fit(|inputs| inputs.blocks[1].ffn_mix[1] = numbers([1, 4], DType::F16)));
        assert!(!fit(|inputs| inputs.blocks[0].att[1] = matrix(4, 4, DType::F32)), "read beside others");
        assert!(!fit(|inputs| inputs.blocks[0].ffn_receptance = matrix(4, 4, DType::F32)));
        assert!(!fit(|inputs| inputs.blocks[1] = block(12)), "another width");
        assert!(!fit(|inputs| inputs.blocks.clear()));
        let pieces = || DecodeMatrix::Tensors(vec![numbers([4, 2], DType::F16), numbers([4, 2], DType::F16)]);
        assert!(!fit(|inputs| inputs.blocks[1].att_output = pieces()));
        let packed = PackedMatrix::pack(Packing::F32, 5, 4, |_, row| row.fill(0.0));
        let packed: &'static PackedMatrix = Box::leak(Box::new(packed));
        assert!(!fit(|inputs| inputs.head = DecodeMatrix::Packed(packed)));
    }
}
