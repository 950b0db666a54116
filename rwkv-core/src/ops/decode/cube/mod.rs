//! The decoding step on CubeCL backends: four launches a block and one for the head, where the operations apart are some
//! twenty a block.
//!
//! | launch | reads, beside the state and small vectors | flops a sequence |
//! |---|---|---|
//! | `attend` | keys, values and receptance of the time-mix, `3·C·A` weights | `6·C·A` |
//! | `add` | its output, `A·C` | `2·A·C` |
//! | `widen` | keys and receptance of the channel-mix, `C·(F + C)` | `2·C·(F + C)` |
//! | `add`, gated | its values, `F·C` | `2·F·C` |
//! | `predict` | the head, `C·V` | `2·C·V` |
//!
//! Every weight is read once for all sequences, so the floor is the model's bytes at memory's speed. All that goes from one
//! launch to the next is `f32`, whatever the weights are.

mod kernels;
mod product;

use super::{DecodeBlock, DecodeInputs, DecodeMatrix, DecodeOutputs, DecodeSizes};
use crate::ops::cube::{empty, empty_together, fold};
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;
use product::Launch;

/// The most rows that are staged at a time for one matrix, and for three: four sequences of them and the sums, in vectors of 4, take 14 KiB,
/// and every device has 16. Vectors of 8, on CUDA, take 18 of 48.
const TILE: usize = 512;
const TILE_OF_THREE: usize = 128;

/// Tensors that a launch takes, and one for their sizes; a device that takes fewer has no decoding step.
const BINDINGS: u32 = 17;

/// Whether the device takes as many tensors as a launch has.
pub(in crate::ops) fn suits<R: CubeRuntime>(device: &R::Device) -> bool {
    R::client(device).properties().hardware.max_bindings >= BINDINGS
}

/// Nothing for inputs without [sizes](DecodeInputs::sizes_for_kernels), or on a device that the step does not suit.
pub(in crate::ops) fn step<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    inputs: DecodeInputs<'_, CubeBackend<R, F, I, BT>>,
) -> Option<DecodeOutputs<CubeBackend<R, F, I, BT>>> {
    let DecodeSizes { batch, width, att, ffn, .. } = inputs.sizes_for_kernels()?;
    let DecodeInputs { x, blocks, ln_out, head: DecodeMatrix::Tensors(head), epsilon } = inputs else { return None };
    if !suits::<R>(&x.device) {
        return None;
    }
    let epsilon = epsilon as f32;
    let blocks = blocks.into_iter().map(|block| block.map(&mut (), |(), t| into_contiguous(t), |(), m| matrix(m)));
    let blocks = blocks.collect::<Option<Vec<Block<R>>>>()?;
    let (x, ln_out) = (into_contiguous(x), ln_out.map(into_contiguous));
    let of_block = || [vec![batch, width], vec![batch, width], vec![batch, 3, att]].map(Shape::from);
    let mut after = in_turn(empty_together(&x, blocks.iter().flat_map(|_| of_block()), DType::F32));
    // What goes from one launch to the next: launches follow each other, so every block may write over the last one's.
    let passed = [width, width, att, ffn, width].map(|width| Shape::new([batch, width]));
    let mut passed = in_turn(empty_together(&x, passed, DType::F32));
    let [after_att, after_ffn, y, hidden, gates] = [passed(), passed(), passed(), passed(), passed()];
    let (mut stream, mut state) = (&x, Vec::with_capacity(blocks.len()));
    for block in &blocks {
        let [att_x, ffn_x, memory] = [after(), after(), after()];
        attend(stream, block, epsilon, [&att_x, &memory, &y]);
        add(stream, &y, &block.att_output, None, 1.0, &after_att);
        widen(&after_att, block, epsilon, [&ffn_x, &hidden, &gates]);
        add(&after_att, &hidden, &block.ffn_value, Some(&gates), block.scale, &after_ffn);
        stream = &after_ffn;
        state.push([att_x, ffn_x, memory]);
    }
    let head = head.into_iter().map(into_contiguous);
    let mut logits: Vec<_> = head.map(|piece| predict(stream, &ln_out, &piece, epsilon)).collect();
    let logits = match logits.len() {
        1 => logits.remove(0),
        _ => CubeBackend::<R, F, I, BT>::float_cat(logits, 1),
    };
    Some(DecodeOutputs { logits, state })
}

/// One tensor after the other.
fn in_turn<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> impl FnMut() -> CubeTensor<R> {
    let mut tensors = tensors.into_iter();
    move || tensors.next().expect("a tensor for every shape")
}

/// A block's tensors, each without gaps.
type Block<R> = DecodeBlock<CubeTensor<R>, CubeTensor<R>>;

/// A matrix that is one tensor, as the inputs were found to have.
fn matrix<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    matrix: DecodeMatrix<'_, CubeBackend<R, F, I, BT>>,
) -> Option<CubeTensor<R>> {
    match matrix {
        DecodeMatrix::Tensors(mut pieces) => pieces.pop().map(into_contiguous),
        DecodeMatrix::Packed(_) => None,
    }
}

fn columns<R: CubeRuntime>(matrix: &CubeTensor<R>) -> usize {
    let [_, columns] = matrix.shape().dims();
    columns
}

/// The time-mix up to its output, into `to`: the new `att_x` and WKV state, and `σ(r) ⊙ wkv`.
fn attend<R: CubeRuntime>(x: &CubeTensor<R>, block: &Block<R>, epsilon: f32, to: [&CubeTensor<R>; 3]) {
    let [batch, width] = x.shape().dims();
    let channels = columns(&block.att[0]);
    let launch = Launch::new(&block.att[0], &[channels], width, batch, TILE_OF_THREE);
    let [to_last, to_memory, y] = argument(to);
    let [last, memory] = argument([&block.att_x, &block.memory]);
    let [norm_weight, norm_bias] = argument(block.ln1.each_ref());
    let [mu_k, mu_v, mu_r] = argument(block.att_mix.each_ref());
    let [w_k, w_v, w_r] = argument(block.att.each_ref());
    let [time_decay, time_first] = argument([&block.time_decay, &block.time_first]);
    kernels::attend::launch::<R>(
        &x.client,
        fold(launch.cubes(channels)),
        launch.units,
        launch.vector,
        x.clone().into_tensor_arg(),
        norm_weight,
        norm_bias,
        last,
        mu_k,
        mu_v,
        mu_r,
        w_k,
        w_v,
        w_r,
        time_decay,
        time_first,
        memory,
        to_last,
        to_memory,
        y,
        epsilon,
        launch.cut,
        block.att[0].dtype.into(),
    );
}

/// The stream after a product was added to it, times `scale`, into `to`.
fn add<R: CubeRuntime>(
    x: &CubeTensor<R>,
    h: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    gates: Option<&CubeTensor<R>>,
    scale: f32,
    to: &CubeTensor<R>,
) {
    let [batch, width] = x.shape().dims();
    let [depth, _] = weight.shape().dims();
    let launch = Launch::new(weight, &[width], depth, batch, TILE);
    kernels::add::launch::<R>(
        &x.client,
        fold(launch.cubes(width)),
        launch.units,
        launch.vector,
        x.clone().into_tensor_arg(),
        h.clone().into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        // Kernel arguments cannot be left out; without gates the stream stands in.
        gates.unwrap_or(x).clone().into_tensor_arg(),
        to.clone().into_tensor_arg(),
        scale,
        gates.is_some(),
        launch.cut,
        weight.dtype.into(),
    );
}

/// The channel-mix up to its values, into `to`: the new `ffn_x`, the squared keys and the gates.
fn widen<R: CubeRuntime>(x: &CubeTensor<R>, block: &Block<R>, epsilon: f32, to: [&CubeTensor<R>; 3]) {
    let [batch, width] = x.shape().dims();
    let hidden = columns(&block.ffn_key);
    let launch = Launch::new(&block.ffn_key, &[hidden, width], width, batch, TILE);
    let [to_last, to_hidden, to_gates] = argument(to);
    let [last] = argument([&block.ffn_x]);
    let [norm_weight, norm_bias] = argument(block.ln2.each_ref());
    let [mu_k, mu_r] = argument(block.ffn_mix.each_ref());
    let [w_k, w_r] = argument([&block.ffn_key, &block.ffn_receptance]);
    let key_cubes = launch.cubes(hidden);
    kernels::widen::launch::<R>(
        &x.client,
        fold(key_cubes + launch.cubes(width)),
        launch.units,
        launch.vector,
        x.clone().into_tensor_arg(),
        norm_weight,
        norm_bias,
        last,
        mu_k,
        mu_r,
        w_k,
        w_r,
        to_last,
        to_hidden,
        to_gates,
        epsilon,
        key_cubes,
        launch.cut,
        block.ffn_key.dtype.into(),
    );
}

/// The logits of a piece of the head.
fn predict<R: CubeRuntime>(
    x: &CubeTensor<R>,
    ln_out: &[CubeTensor<R>; 2],
    weight: &CubeTensor<R>,
    epsilon: f32,
) -> CubeTensor<R> {
    let [batch, width] = x.shape().dims();
    let vocab = columns(weight);
    let launch = Launch::new(weight, &[vocab], width, batch, TILE);
    let logits = empty(x, [batch, vocab], DType::F32);
    let [norm_weight, norm_bias] = argument(ln_out.each_ref());
    kernels::predict::launch::<R>(
        &x.client,
        fold(launch.cubes(vocab)),
        launch.units,
        launch.vector,
        x.clone().into_tensor_arg(),
        norm_weight,
        norm_bias,
        weight.clone().into_tensor_arg(),
        logits.clone().into_tensor_arg(),
        epsilon,
        launch.cut,
        weight.dtype.into(),
    );
    logits
}

fn argument<R: CubeRuntime, const COUNT: usize>(tensors: [&CubeTensor<R>; COUNT]) -> [TensorArg<R>; COUNT] {
    tensors.map(|tensor| tensor.clone().into_tensor_arg())
}
