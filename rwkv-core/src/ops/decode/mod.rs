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
    /// The sizes, where a step over tensors takes the inputs: numbers beside the matrices are `f32`, every matrix of a block is one
    /// tensor, those that are read together have one dtype, all blocks have the same sizes, all shapes are those of the
    /// fields, and there are a block and no more than [`MAX_BATCH`] sequences.
    #[must_use]
    pub fn sizes_for_kernels(&self) -> Option<DecodeSizes> {
        let [batch, width] = matrix_shape(&self.x)?;
        let first = self.blocks.first()?;
        let [_, att] = matrix_shape(first.att[0].tensor()?)?;
        let [_, ffn] = matrix_shape(first.ffn_key.tensor()?)?;
        let DecodeMatrix::Tensors(head) = &self.head else { return None };
        let of_piece = |piece| matrix_shape(piece).filter(|[inputs, _]| *inputs == width).map(|[_, outputs]| outputs);
        let vocab = head.iter().map(of_piece).sum::<Option<usize>>()?;
        let sizes = DecodeSizes { batch, width, att, ffn, vocab };
        let ends = [&self.x, &self.ln_out[0], &self.ln_out[1]].iter().all(|tensor| tensor.dtype() == DType::F32)
            && self.ln_out.iter().all(|tensor| tensor.shape().num_elements() == width);
        let fits = ends && (1..=MAX_BATCH).contains(&batch) && vocab > 0;
        (fits && self.blocks.iter().all(|block| sizes.fit(block))).then_some(sizes)
    }
}

/// The sizes of a decoding step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeSizes {
    /// Sequences, `B`.
    pub batch: usize,
    /// The stream's width, `C`.
    pub width: usize,
    /// Channels of WKV, `A`.
    pub att: usize,
    /// Channels of the channel-mix's keys, `F`.
    pub ffn: usize,
    /// Tokens, `V`.
    pub vocab: usize,
}

impl DecodeSizes {
    fn fit<B: Backend>(self, block: &DecodeBlock<FloatTensor<B>, DecodeMatrix<'_, B>>) -> bool {
        let Self { batch, width, att, ffn, .. } = self;
        let inside = |tensor: &FloatTensor<B>, count| tensor.shape().num_elements() == count;
        let of_stream = block.ln1.iter().chain(&block.ln2).chain(&block.att_mix).chain(&block.ffn_mix);
        let shapes =
            [[width, att], [width, att], [width, att], [att, width], [width, ffn], [width, width], [ffn, width]];
        let dtype = |matrix: &DecodeMatrix<'_, B>| matrix.tensor().map(TensorMetadata::dtype);
        let [key, value, receptance] = block.att.each_ref().map(dtype);
        block.numbers().all(|tensor| tensor.dtype() == DType::F32)
            && of_stream.into_iter().all(|tensor| inside(tensor, width))
            && inside(&block.time_decay, att)
            && inside(&block.time_first, att)
            && [&block.att_x, &block.ffn_x].iter().all(|tensor| matrix_shape(*tensor) == Some([batch, width]))
            && block.memory.shape() == [batch, 3, att].into()
            && block.matrices().iter().zip(shapes).all(|(m, shape)| m.tensor().and_then(matrix_shape) == Some(shape))
            && key == value
            && key == receptance
            && dtype(&block.ffn_key) == dtype(&block.ffn_receptance)
    }
}

fn matrix_shape(tensor: &impl TensorMetadata) -> Option<[usize; 2]> {
    (tensor.rank() == 2).then(|| tensor.shape().dims())
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
    type Change = fn(&mut Inputs);

    fn numbers(shape: [usize; 2], dtype: DType) -> FloatTensor<Flex> {
        crate::ops::primitive(Tensor::<Flex, 2>::zeros(shape, (&Default::default(), dtype)))
    }

    fn matrix(rows: usize, columns: usize, dtype: DType) -> DecodeMatrix<'static, Flex> {
        DecodeMatrix::Tensors(vec![numbers([rows, columns], dtype)])
    }

    /// Of sizes that are all different: `C = 4`, `A = 6`.
    fn block(hidden: usize) -> DecodeBlock<FloatTensor<Flex>, DecodeMatrix<'static, Flex>> {
        let (number, of_att) = (|| numbers([1, 4], DType::F32), || numbers([1, 6], DType::F32));
        let memory = Tensor::<Flex, 3>::zeros([1, 3, 6], (&Default::default(), DType::F32));
        let to_att = || matrix(4, 6, DType::F16);
        DecodeBlock {
            ln1: [number(), number()],
            ln2: [number(), number()],
            att_mix: [number(), number(), number()],
            time_decay: of_att(),
            time_first: of_att(),
            att: [to_att(), to_att(), to_att()],
            att_output: matrix(6, 4, DType::F16),
            ffn_mix: [number(), number()],
            ffn_key: matrix(4, hidden, DType::F16),
            ffn_receptance: matrix(4, 4, DType::F16),
            ffn_value: matrix(hidden, 4, DType::F16),
            scale: 1.0,
            att_x: number(),
            ffn_x: number(),
            memory: crate::ops::primitive(memory),
        }
    }

    fn sizes(change: impl FnOnce(&mut Inputs)) -> Option<DecodeSizes> {
        let number = || numbers([1, 4], DType::F32);
        let mut inputs = DecodeInputs {
            x: number(),
            blocks: vec![block(8), block(8)],
            ln_out: [number(), number()],
            head: DecodeMatrix::Tensors(vec![numbers([4, 3], DType::F16), numbers([4, 2], DType::F16)]),
            epsilon: 1e-5,
        };
        change(&mut inputs);
        inputs.sizes_for_kernels()
    }

    #[test]
    fn only_what_kernels_take_fits() {
        let all = DecodeSizes { batch: 1, width: 4, att: 6, ffn: 8, vocab: 5 };
        assert_eq!(sizes(|_| ()), Some(all), "matrices of another dtype, a head in pieces");
        assert!(sizes(|inputs| inputs.blocks[1].att_output = matrix(6, 4, DType::F32)).is_some(), "read alone");
        let refused: [(&str, Change); 23] = [
            ("f16", |inputs| inputs.x = numbers([1, 4], DType::F16)),
            ("f64", |inputs| inputs.ln_out[1] = numbers([1, 4], DType::F64)),
            ("f16 in a block", |inputs| inputs.blocks[1].ffn_mix[1] = numbers([1, 4], DType::F16)),
            ("read beside others", |inputs| inputs.blocks[0].att[1] = matrix(4, 6, DType::F32)),
            ("read beside another", |inputs| inputs.blocks[0].ffn_receptance = matrix(4, 4, DType::F32)),
            ("another width", |inputs| inputs.blocks[1] = block(12)),
            ("no block", |inputs| inputs.blocks.clear()),
            ("pieces", |inputs| {
                let pieces = vec![numbers([6, 2], DType::F16), numbers([6, 2], DType::F16)];
                inputs.blocks[1].att_output = DecodeMatrix::Tensors(pieces);
            }),
            ("too many sequences", |inputs| {
                let [many, memory] = [MAX_BATCH + 1, 18 * (MAX_BATCH + 1)];
                inputs.x = numbers([many, 4], DType::F32);
                for block in &mut inputs.blocks {
                    (block.att_x, block.ffn_x) = (numbers([many, 4], DType::F32), numbers([many, 4], DType::F32));
                    let zeros = Tensor::<Flex, 1>::zeros([memory], (&Default::default(), DType::F32));
                    block.memory = crate::ops::primitive(zeros.reshape([many, 3, 6]));
                }
            }),
            ("a state of more sequences", |inputs| inputs.blocks[1].att_x = numbers([2, 4], DType::F32)),
            ("another such state", |inputs| inputs.blocks[1].ffn_x = numbers([2, 4], DType::F32)),
            ("a WKV state of two dimensions", |inputs| inputs.blocks[0].memory = numbers([3, 6], DType::F32)),
            ("a short vector", |inputs| inputs.blocks[0].time_first = numbers([1, 4], DType::F32)),
            ("a short decay", |inputs| inputs.blocks[0].time_decay = numbers([1, 4], DType::F32)),
            ("a narrow key", |inputs| inputs.blocks[1].att[0] = matrix(4, 4, DType::F16)),
            ("a low key", |inputs| inputs.blocks[0].ffn_key = matrix(6, 8, DType::F16)),
            ("a wide receptance", |inputs| inputs.blocks[0].ffn_receptance = matrix(4, 6, DType::F16)),
            ("a long vector", |inputs| inputs.ln_out[0] = numbers([1, 5], DType::F32)),
            ("an output the other way round", |inputs| inputs.blocks[0].att_output = matrix(4, 6, DType::F16)),
            ("a low value", |inputs| inputs.blocks[0].ffn_value = matrix(7, 4, DType::F16)),
            ("a piece of another width", |inputs| inputs.head = matrix(5, 4, DType::F16)),
            ("no piece", |inputs| inputs.head = DecodeMatrix::Tensors(Vec::new())),
            ("packed", |inputs| {
                let packed = PackedMatrix::pack(Packing::F32, 5, 4, |_, row| row.fill(0.0));
                inputs.head = DecodeMatrix::Packed(Box::leak(Box::new(packed)));
            }),
        ];
        for (what, change) in refused {
            assert_eq!(sizes(change), None, "{what}");
        }
    }
}
