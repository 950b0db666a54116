//! The decoding step on CubeCL backends: four launches a block and one for the head, where the operations apart are some
//! twenty-four a block.
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

use super::{DecodeBlock, DecodeInputs, DecodeMatrix, DecodeOutputs};
use crate::ops::cube::{NARROWEST_PLANE, empty, fold, vector_size};
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;
use kernels::Cut;

/// Units of a cube.
const UNITS: usize = 256;

/// Cubes that a product is to have at least: enough for every multiprocessor of a large GPU.
const CUBES_WANTED: usize = 256;

/// Fewer vectors of columns beside each other would be less than memory hands out at once.
const LEAST_LANES: usize = 4;

/// More would leave too few groups to share the rows.
const MOST_LANES: usize = 32;

/// Rows that are staged at a time for one matrix, and for three: with the sums they are to fit 16 KiB, which every device has.
const TILE: usize = 512;
const TILE_OF_THREE: usize = 128;

/// Nothing for a model that has other numbers than `f32` beside its matrices, or inner matrices in pieces.
pub(in crate::ops) fn step<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    inputs: DecodeInputs<'_, CubeBackend<R, F, I, BT>>,
) -> Option<DecodeOutputs<CubeBackend<R, F, I, BT>>> {
    let DecodeInputs { x, state, blocks, ln_out, head, epsilon } = inputs;
    let epsilon = epsilon as f32;
    let blocks = blocks.into_iter().zip(state).map(|(block, state)| Block::new(block, state));
    let blocks = blocks.collect::<Option<Vec<_>>>()?;
    let ln_out = numbers(ln_out)?;
    let DecodeMatrix::Tensors(head) = head else { return None };
    let [mut x] = numbers([x])?;
    let mut after = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (att_x, memory, y) = attend(&x, &block, epsilon);
        x = add(&x, &y, &block.att_output, None, 1.0);
        let (ffn_x, hidden, gates) = widen(&x, &block, epsilon);
        x = add(&x, &hidden, &block.ffn_value, Some(&gates), block.scale);
        after.push([att_x, ffn_x, memory]);
    }
    let head = head.into_iter().map(into_contiguous);
    let mut logits: Vec<_> = head.map(|piece| predict(&x, &ln_out, &piece, epsilon)).collect();
    let logits = match logits.len() {
        1 => logits.remove(0),
        _ => CubeBackend::<R, F, I, BT>::float_cat(logits, 1),
    };
    Some(DecodeOutputs { logits, state: after })
}

/// A block's tensors, each in one piece: the numbers `f32`, the matrices of one dtype in each launch.
struct Block<R: CubeRuntime> {
    ln1: [CubeTensor<R>; 2],
    ln2: [CubeTensor<R>; 2],
    att_mix: [CubeTensor<R>; 3],
    ffn_mix: [CubeTensor<R>; 2],
    time: [CubeTensor<R>; 2],
    state: [CubeTensor<R>; 3],
    att: [CubeTensor<R>; 3],
    att_output: CubeTensor<R>,
    ffn: [CubeTensor<R>; 2],
    ffn_value: CubeTensor<R>,
    scale: f32,
}

impl<R: CubeRuntime> Block<R> {
    fn new<F: FloatElement, I: IntElement, BT: BoolElement>(
        block: DecodeBlock<'_, CubeBackend<R, F, I, BT>>,
        state: [CubeTensor<R>; 3],
    ) -> Option<Self> {
        let [k, v, r] = block.att.map(matrix);
        Some(Self {
            ln1: numbers(block.ln1)?,
            ln2: numbers(block.ln2)?,
            att_mix: numbers(block.att_mix)?,
            ffn_mix: numbers(block.ffn_mix)?,
            time: numbers([block.time_decay, block.time_first])?,
            state: numbers(state)?,
            att: alike([k?, v?, r?])?,
            att_output: matrix(block.att_output)?,
            ffn: alike([matrix(block.ffn_key)?, matrix(block.ffn_receptance)?])?,
            ffn_value: matrix(block.ffn_value)?,
            scale: block.scale,
        })
    }
}

/// A matrix that is one tensor.
fn matrix<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    matrix: DecodeMatrix<'_, CubeBackend<R, F, I, BT>>,
) -> Option<CubeTensor<R>> {
    match matrix {
        DecodeMatrix::Tensors(mut pieces) if pieces.len() == 1 => pieces.pop().map(into_contiguous),
        _ => None,
    }
}

/// Matrices of one dtype, as a launch takes them.
fn alike<R: CubeRuntime, const COUNT: usize>(matrices: [CubeTensor<R>; COUNT]) -> Option<[CubeTensor<R>; COUNT]> {
    let dtype = matrices[0].dtype;
    matrices.iter().all(|matrix| matrix.dtype == dtype).then_some(matrices)
}

/// Tensors of `f32`, each without gaps.
fn numbers<R: CubeRuntime, const COUNT: usize>(tensors: [CubeTensor<R>; COUNT]) -> Option<[CubeTensor<R>; COUNT]> {
    tensors.iter().all(|tensor| tensor.dtype == DType::F32).then(|| tensors.map(into_contiguous))
}

/// A launch over the columns of matrices like this one.
struct Launch {
    vector: VectorSize,
    cut: Cut,
    units: CubeDim,
}

impl Launch {
    /// Vectors divide `widths`, the columns of the matrices; `tile` rows are staged at a time.
    fn new<R: CubeRuntime>(like: &CubeTensor<R>, widths: &[usize], batch: usize, tile: usize) -> Self {
        let width = widths.iter().copied().fold(0, greatest_common_divisor);
        let vector = vector_size(like, width);
        let vectors = widths.iter().sum::<usize>() / vector;
        let software = like.client.properties().hardware.plane_size_max < NARROWEST_PLANE;
        let cubes_wanted = if software { 1 } else { CUBES_WANTED };
        let mut lanes = LEAST_LANES;
        while lanes < MOST_LANES && vectors / (2 * lanes) >= cubes_wanted {
            lanes *= 2;
        }
        let cut = Cut { batch, lanes, groups: UNITS / lanes, tile };
        Self { vector, cut, units: CubeDim::new_1d(UNITS as u32) }
    }

    /// Cubes for a matrix of so many columns.
    fn cubes(&self, columns: usize) -> usize {
        (columns / self.vector).div_ceil(self.cut.lanes)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn columns<R: CubeRuntime>(matrix: &CubeTensor<R>) -> usize {
    let [_, columns] = matrix.shape().dims();
    columns
}

/// The time-mix up to its output: the new `att_x` and WKV state, and `σ(r) ⊙ wkv`.
fn attend<R: CubeRuntime>(
    x: &CubeTensor<R>,
    block: &Block<R>,
    epsilon: f32,
) -> (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>) {
    let [batch, width] = x.shape().dims();
    let channels = columns(&block.att[0]);
    let launch = Launch::new(&block.att[0], &[channels], batch, TILE_OF_THREE);
    let outputs = [vec![batch, width], vec![batch, 3, channels], vec![batch, channels]];
    let outputs = outputs.map(|shape| empty(x, shape, DType::F32));
    let [to_last, to_memory, y] = outputs.clone().map(CubeTensor::into_tensor_arg);
    let [last, _, memory] = argument(&block.state);
    let [norm_weight, norm_bias] = argument(&block.ln1);
    let [mu_k, mu_v, mu_r] = argument(&block.att_mix);
    let [w_k, w_v, w_r] = argument(&block.att);
    let [time_decay, time_first] = argument(&block.time);
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
    let [att_x, memory, y] = outputs;
    (att_x, memory, y)
}

/// The stream after a product was added to it, times `scale`.
fn add<R: CubeRuntime>(
    x: &CubeTensor<R>,
    h: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    gates: Option<&CubeTensor<R>>,
    scale: f32,
) -> CubeTensor<R> {
    let [batch, width] = x.shape().dims();
    let launch = Launch::new(weight, &[width], batch, TILE);
    let out = empty(x, [batch, width], DType::F32);
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
        out.clone().into_tensor_arg(),
        scale,
        gates.is_some(),
        launch.cut,
        weight.dtype.into(),
    );
    out
}

/// The channel-mix up to its values: the new `ffn_x`, the squared keys and the gates.
fn widen<R: CubeRuntime>(
    x: &CubeTensor<R>,
    block: &Block<R>,
    epsilon: f32,
) -> (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>) {
    let [batch, width] = x.shape().dims();
    let hidden = columns(&block.ffn[0]);
    let launch = Launch::new(&block.ffn[0], &[hidden, width], batch, TILE);
    let outputs = [width, hidden, width].map(|width| empty(x, [batch, width], DType::F32));
    let [to_last, to_hidden, to_gates] = outputs.clone().map(CubeTensor::into_tensor_arg);
    let [_, last, _] = argument(&block.state);
    let [norm_weight, norm_bias] = argument(&block.ln2);
    let [mu_k, mu_r] = argument(&block.ffn_mix);
    let [w_k, w_r] = argument(&block.ffn);
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
        block.ffn[0].dtype.into(),
    );
    let [ffn_x, hidden, gates] = outputs;
    (ffn_x, hidden, gates)
}

/// The logits of a piece of the head.
fn predict<R: CubeRuntime>(
    x: &CubeTensor<R>,
    ln_out: &[CubeTensor<R>; 2],
    weight: &CubeTensor<R>,
    epsilon: f32,
) -> CubeTensor<R> {
    let [batch, _] = x.shape().dims();
    let vocab = columns(weight);
    let launch = Launch::new(weight, &[vocab], batch, TILE);
    let logits = empty(x, [batch, vocab], DType::F32);
    let [norm_weight, norm_bias] = argument(ln_out);
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

fn argument<R: CubeRuntime, const COUNT: usize>(tensors: &[CubeTensor<R>; COUNT]) -> [TensorArg<R>; COUNT] {
    tensors.each_ref().map(|tensor| tensor.clone().into_tensor_arg())
}
