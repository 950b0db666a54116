//! The decoding step as one operation of Burn's fusion stream.

use super::{DecodeBlock, DecodeInputs, DecodeMatrix, DecodeOutputs, DecodeSizes};
use crate::ops::RwkvBackend;
use crate::ops::fusion::register_call;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_fusion::{Fusion, FusionBackend};

/// Nothing for inputs without [sizes](DecodeInputs::sizes_for_kernels), or where the inner backend has no such operation: once
/// inputs are in the stream it is too late to find out.
pub(in crate::ops) fn step<B: FusionBackend + RwkvBackend>(
    inputs: DecodeInputs<'_, Fusion<B>>,
) -> Option<DecodeOutputs<Fusion<B>>> {
    let DecodeSizes { batch, width, att, vocab, .. } = inputs.sizes_for_kernels()?;
    let DecodeInputs { x, blocks, ln_out, head: DecodeMatrix::Tensors(head), epsilon } = inputs else { return None };
    if !B::has_decode_step(x.client.device()) {
        return None;
    }
    let mut outputs = vec![Shape::new([batch, vocab])];
    let mut tensors = vec![x];
    let depth = blocks.len();
    let places = blocks.into_iter().map(|block| {
        outputs.extend([Shape::new([batch, width]), Shape::new([batch, width]), Shape::new([batch, 3, att])]);
        block.map(&mut tensors, Vec::push, |tensors, matrix| {
            let DecodeMatrix::Tensors(pieces) = matrix else { return None };
            tensors.extend(pieces);
            Some(())
        })
    });
    let places = Places { blocks: places.collect::<Option<_>>()?, epsilon };
    tensors.extend(ln_out);
    tensors.extend(head);
    let run = move |tensors| {
        let outputs = B::decode_step(places.filled(tensors)).expect("a backend with the operation takes what fits");
        std::iter::once(outputs.logits).chain(outputs.state.into_iter().flatten()).collect()
    };
    let outputs = outputs.into_iter().map(|shape| (shape, DType::F32)).collect();
    let mut made = register_call::<B>("rwkv.decode_step", tensors, outputs, run).into_iter();
    let mut next = || made.next().expect("as many outputs as were described");
    let logits = next();
    let state = (0..depth).map(|_| [next(), next(), next()]).collect();
    Some(DecodeOutputs { logits, state })
}

/// The inputs without their tensors.
struct Places {
    blocks: Vec<DecodeBlock<(), ()>>,
    epsilon: f64,
}

impl Places {
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
