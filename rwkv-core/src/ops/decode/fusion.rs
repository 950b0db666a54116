//! The decoding step as one operation of Burn's fusion stream.

use super::{DecodeBlock, DecodeInputs, DecodeMatrix, DecodeOutputs};
use crate::ops::RwkvBackend;
use crate::ops::fusion::register;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_fusion::{Fusion, FusionBackend};

/// Nothing for inputs that do not [fit](DecodeInputs::fit_kernels): once they are in the stream it is too late to find out.
pub(in crate::ops) fn step<B: FusionBackend + RwkvBackend>(
    inputs: DecodeInputs<'_, Fusion<B>>,
) -> Option<DecodeOutputs<Fusion<B>>> {
    if !inputs.fit_kernels() {
        return None;
    }
    let outputs: Vec<_> = shapes(&inputs).into_iter().map(|shape| (shape, DType::F32)).collect();
    let DecodeInputs { x, blocks, ln_out, head, epsilon } = inputs;
    let mut tensors = vec![x];
    let blocks = blocks.into_iter().map(|block| {
        block.map(&mut tensors, Vec::push, |tensors, matrix| match matrix {
            DecodeMatrix::Tensors(pieces) => Some(tensors.extend(pieces)),
            DecodeMatrix::Packed(_) => None,
        })
    });
    let depth = blocks.len();
    let emptied = Emptied { blocks: blocks.collect::<Option<_>>()?, epsilon };
    tensors.extend(ln_out);
    let DecodeMatrix::Tensors(head) = head else { return None };
    tensors.extend(head);
    let run = move |tensors| {
        let outputs = B::decode_step(emptied.filled(tensors)).expect("a backend with the operation takes what fits");
        std::iter::once(outputs.logits).chain(outputs.state.into_iter().flatten()).collect()
    };
    let mut made = register::<B>("rwkv.decode_step", tensors, outputs, run).into_iter();
    let mut next = || made.next().expect("as many outputs as were described");
    let logits = next();
    let state = (0..depth).map(|_| [next(), next(), next()]);
    Some(DecodeOutputs { logits, state: state.collect() })
}

/// Of the logits, then of every block's state.
fn shapes<B: RwkvBackend>(inputs: &DecodeInputs<'_, B>) -> Vec<Shape> {
    let [batch, _] = inputs.x.shape().dims();
    let vocab = match &inputs.head {
        DecodeMatrix::Tensors(pieces) => pieces.iter().map(|piece| piece.shape()[1]).sum(),
        DecodeMatrix::Packed(matrix) => matrix.rows(),
    };
    let state = inputs.blocks.iter().flat_map(|block| [&block.att_x, &block.ffn_x, &block.memory]);
    std::iter::once(Shape::new([batch, vocab])).chain(state.map(TensorMetadata::shape)).collect()
}

/// The inputs without their tensors.
struct Emptied {
    blocks: Vec<DecodeBlock<(), ()>>,
    epsilon: f64,
}

impl Emptied {
    /// The inputs with these tensors, in the order in which they were taken out.
    fn filled<B: RwkvBackend>(&self, tensors: Vec<FloatTensor<B>>) -> DecodeInputs<'static, B> {
        let next = |tensors: &mut std::vec::IntoIter<_>| tensors.next().expect("as many tensors as were taken out");
        let mut tensors = tensors.into_iter();
        let x = next(&mut tensors);
        let of_block = |block: &DecodeBlock<(), ()>| {
            let matrix = |tensors: &mut _| DecodeMatrix::Tensors(vec![next(tensors)]);
            let filled =
                block.clone().map(&mut tensors, |tensors, ()| next(tensors), |tensors, ()| Some(matrix(tensors)));
            filled.expect("a matrix for every place")
        };
        let blocks = self.blocks.iter().map(of_block).collect();
        let ln_out = [next(&mut tensors), next(&mut tensors)];
        DecodeInputs { x, blocks, ln_out, head: DecodeMatrix::Tensors(tensors.collect()), epsilon: self.epsilon }
    }
}
