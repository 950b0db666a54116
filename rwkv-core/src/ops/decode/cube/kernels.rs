//! The kernels of the decoding step, written once for every CubeCL runtime.
//!
//! All are products of a few rows with a matrix, `[in, out]`, after something small and before something small. The units
//! of a cube share [`Cut::lanes`] vectors of neighbouring columns: unit `group·lanes + lane` adds up what every so many rows
//! give to vector `lane`, and the sums of all groups meet in shared memory. What multiplies the matrix is staged in shared
//! memory, [`Cut::tile`] rows at a time; what lies before it — a layer norm, token shift — is so little that every cube
//! computes all of it for itself, which is cheaper than a launch.

use crate::ops::gate::cube::sigmoid;
use crate::ops::layer_norm::cube::moments_of;
use crate::ops::wkv::cube::forward::{load, store, take_in, weigh};
use cubecl::prelude::*;

/// How the units of a cube share a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    /// Rows that multiply the matrix: sequences.
    pub batch: usize,
    /// Vectors of columns.
    pub lanes: usize,
    /// Units that share a vector, a power of two.
    pub groups: usize,
    /// Rows of the matrix that are staged at a time, a multiple of `groups`.
    pub tile: usize,
}

impl Cut {
    /// Units of a cube.
    pub fn units(self) -> usize {
        self.lanes * self.groups
    }
}

/// The vector of columns of a unit, and whether it is one: the last cube may have units too many, which repeat the last.
#[derive(CubeType)]
struct Column {
    at: usize,
    exists: bool,
    /// Vectors in a row of the matrix.
    stride: usize,
}

/// The column of this unit in cube `cube` of those that share a matrix of so many columns.
#[cube]
fn column_of<N: Size>(cube: usize, columns: usize, #[comptime] cut: Cut) -> Column {
    let stride = columns / N::value();
    let at = cube * cut.lanes + UNIT_POS as usize % cut.lanes;
    Column { at: min(at, stride - 1), exists: at < stride && (UNIT_POS as usize) < cut.lanes, stride }
}

/// Adds what the staged rows give to the sums, `[batch]`.
#[cube]
fn multiply<W: Float, N: Size>(
    weight: &Tensor<Vector<W, N>>,
    inputs: &SharedMemory<f32>,
    sums: &mut Array<Vector<f32, N>>,
    first: usize,
    depth: usize,
    column: &Column,
    #[comptime] cut: Cut,
) {
    let group = UNIT_POS as usize / cut.lanes;
    let rows = comptime!(cut.tile / cut.groups);
    #[unroll(rows <= 8)]
    for i in 0..rows {
        let row = i * cut.groups + group;
        // Rows beyond the matrix are staged as zeros.
        let at = min(first + row, depth - 1) * column.stride + column.at;
        let numbers = Vector::<f32, N>::cast_from(weight[at]);
        #[unroll]
        for b in 0..cut.batch {
            sums[b] += Vector::new(inputs[b * cut.tile + row]) * numbers;
        }
    }
}

/// No sum yet of any sequence.
#[cube]
fn zeros<N: Size>(#[comptime] cut: Cut) -> Array<Vector<f32, N>> {
    let mut sums = Array::<Vector<f32, N>>::new(cut.batch);
    #[unroll]
    for b in 0..cut.batch {
        sums[b] = Vector::new(0.0);
    }
    sums
}

/// The sum of what all groups bring for the unit's vector. Every unit must take part.
#[cube]
fn total<N: Size>(
    shared: &mut SharedMemory<Vector<f32, N>>,
    value: Vector<f32, N>,
    #[comptime] cut: Cut,
) -> Vector<f32, N> {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(cut.units() / 2).runtime();
    while half >= cut.lanes {
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[unit % cut.lanes];
    // The memory is used again at once.
    sync_cube();
    sum
}

/// The moments of the rows of the stream, `[batch, 2]` in shared memory: mean and `1/√(variance + ε)`.
#[cube]
fn moments(x: &Tensor<f32>, width: usize, epsilon: f32, #[comptime] cut: Cut) -> SharedMemory<f32> {
    let mut found = SharedMemory::<f32>::new(comptime!(2 * cut.batch));
    for b in 0..cut.batch {
        let row = moments_of::<f32, f32>(x, b * width, width, epsilon, comptime!(cut.units() as u32));
        if UNIT_POS == 0 {
            found[2 * b] = row.mean;
            found[2 * b + 1] = row.inverse;
        }
    }
    sync_cube();
    found
}

/// Which row of the matrix and which sequence is staged at a place.
#[derive(CubeType)]
struct Staged {
    row: usize,
    exists: bool,
    /// Where it stands in a tensor `[batch, depth]`.
    at: usize,
}

#[cube]
fn staged(place: usize, first: usize, depth: usize, #[comptime] cut: Cut) -> Staged {
    let row = first + place % cut.tile;
    let exists = row < depth;
    let row = min(row, depth - 1);
    Staged { row, exists, at: place / cut.tile * depth + row }
}

/// The layer norm of an element of the stream.
#[cube]
fn normal(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    moments: &SharedMemory<f32>,
    place: usize,
    staged: &Staged,
    #[comptime] cut: Cut,
) -> f32 {
    let b = place / cut.tile;
    (x[staged.at] - moments[2 * b]) * moments[2 * b + 1] * weight[staged.row] + bias[staged.row]
}

/// Every cube computes every normalised element; one of them keeps it for the next token.
#[cube]
fn keeps(first: usize, #[comptime] cut: Cut) -> bool {
    first / cut.tile % CUBE_COUNT == CUBE_POS
}

/// Layer norm, token shift, keys, values and receptance of the time-mix, WKV and its gate: a cube takes some channels from
/// the stream to `σ(r) ⊙ wkv`.
#[cube(launch)]
pub(super) fn attend<W: Float, N: Size>(
    x: &Tensor<f32>,           // [B, C]
    norm_weight: &Tensor<f32>, // [C]
    norm_bias: &Tensor<f32>,   // [C]
    last: &Tensor<f32>,        // [B, C]
    mu_k: &Tensor<f32>,        // [C], as the next two
    mu_v: &Tensor<f32>,
    mu_r: &Tensor<f32>,
    w_k: &Tensor<Vector<W, N>>, // [C, A], as the next two
    w_v: &Tensor<Vector<W, N>>,
    w_r: &Tensor<Vector<W, N>>,
    time_decay: &Tensor<f32>,    // [A]
    time_first: &Tensor<f32>,    // [A]
    memory: &Tensor<f32>,        // [B, 3, A]
    to_last: &mut Tensor<f32>,   // [B, C]
    to_memory: &mut Tensor<f32>, // [B, 3, A]
    y: &mut Tensor<f32>,         // [B, A]
    epsilon: f32,
    #[comptime] cut: Cut,
    #[define(W)] _dtype: StorageType,
) {
    let depth = norm_weight.len();
    let channels = time_decay.len();
    let column = column_of::<N>(CUBE_POS, channels, cut);
    let moments = moments(x, depth, epsilon, cut);
    let staging = comptime!(cut.batch * cut.tile);
    let mut in_k = SharedMemory::<f32>::new(staging);
    let mut in_v = SharedMemory::<f32>::new(staging);
    let mut in_r = SharedMemory::<f32>::new(staging);
    let mut k = zeros::<N>(cut);
    let mut v = zeros::<N>(cut);
    let mut r = zeros::<N>(cut);
    let mut first = 0usize.runtime();
    while first < depth {
        let mut place = UNIT_POS as usize;
        while place < staging {
            let here = staged(place, first, depth, cut);
            let normal = normal(x, norm_weight, norm_bias, &moments, place, &here, cut);
            let before = last[here.at];
            let change = normal - before;
            in_k[place] = select(here.exists, before + change * mu_k[here.row], 0.0);
            in_v[place] = select(here.exists, before + change * mu_v[here.row], 0.0);
            in_r[place] = select(here.exists, before + change * mu_r[here.row], 0.0);
            if here.exists && keeps(first, cut) {
                to_last[here.at] = normal;
            }
            place += cut.units();
        }
        sync_cube();
        multiply::<W, N>(w_k, &in_k, &mut k, first, depth, &column, cut);
        multiply::<W, N>(w_v, &in_v, &mut v, first, depth, &column, cut);
        multiply::<W, N>(w_r, &in_r, &mut r, first, depth, &column, cut);
        sync_cube();
        first += cut.tile;
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(cut.units()));
    #[unroll]
    for b in 0..cut.batch {
        let k = total::<N>(&mut shared, k[b], cut);
        let v = total::<N>(&mut shared, v[b], cut);
        let open = sigmoid::<f32, N>(total::<N>(&mut shared, r[b], cut));
        if column.exists {
            #[unroll]
            for i in 0..N::value() {
                let channel = column.at * N::value() + i;
                let row = b * 3 * channels + channel;
                let w = -f32::exp(time_decay[channel]);
                let mut sums = load::<f32>(memory, row, channels);
                let weights = weigh::<f32>(&sums, w, time_first[channel], k[i]);
                let average = (weights.past * sums.a + weights.now * v[i]) / weights.denominator;
                y[b * channels + channel] = average * open[i];
                take_in::<f32>(&mut sums, w, k[i], v[i]);
                store::<f32>(&sums, w, to_memory, row, channels);
            }
        }
    }
}

/// What a product adds to the stream: `(x + W·h)·scale`, or with gates `(x + g ⊙ W·h)·scale`.
#[cube(launch)]
pub(super) fn add<W: Float, N: Size>(
    x: &Tensor<f32>,               // [B, C]
    h: &Tensor<f32>,               // [B, D]
    weight: &Tensor<Vector<W, N>>, // [D, C]
    gates: &Tensor<f32>,           // [B, C]; anything where there are none
    out: &mut Tensor<f32>,         // [B, C]
    scale: f32,
    #[comptime] gated: bool,
    #[comptime] cut: Cut,
    #[define(W)] _dtype: StorageType,
) {
    let depth = h.len() / cut.batch;
    let columns = out.len() / cut.batch;
    let column = column_of::<N>(CUBE_POS, columns, cut);
    let staging = comptime!(cut.batch * cut.tile);
    let mut inputs = SharedMemory::<f32>::new(staging);
    let mut sums = zeros::<N>(cut);
    let mut first = 0usize.runtime();
    while first < depth {
        let mut place = UNIT_POS as usize;
        while place < staging {
            let here = staged(place, first, depth, cut);
            inputs[place] = select(here.exists, h[here.at], 0.0);
            place += cut.units();
        }
        sync_cube();
        multiply::<W, N>(weight, &inputs, &mut sums, first, depth, &column, cut);
        sync_cube();
        first += cut.tile;
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(cut.units()));
    #[unroll]
    for b in 0..cut.batch {
        let sum = total::<N>(&mut shared, sums[b], cut);
        if column.exists {
            #[unroll]
            for i in 0..N::value() {
                let at = b * columns + column.at * N::value() + i;
                let mut more = sum[i];
                if gated {
                    more *= gates[at];
                }
                out[at] = (x[at] + more) * scale;
            }
        }
    }
}

/// Layer norm and token shift of the channel-mix, then its keys, squared where positive, by the first `key_cubes` cubes,
/// and its gates `σ(r)` by the others.
#[cube(launch)]
pub(super) fn widen<W: Float, N: Size>(
    x: &Tensor<f32>,            // [B, C]
    norm_weight: &Tensor<f32>,  // [C]
    norm_bias: &Tensor<f32>,    // [C]
    last: &Tensor<f32>,         // [B, C]
    mu_k: &Tensor<f32>,         // [C]
    mu_r: &Tensor<f32>,         // [C]
    w_k: &Tensor<Vector<W, N>>, // [C, F]
    w_r: &Tensor<Vector<W, N>>, // [C, C]
    to_last: &mut Tensor<f32>,  // [B, C]
    hidden: &mut Tensor<f32>,   // [B, F]
    gates: &mut Tensor<f32>,    // [B, C]
    epsilon: f32,
    key_cubes: usize,
    #[comptime] cut: Cut,
    #[define(W)] _dtype: StorageType,
) {
    let depth = norm_weight.len();
    let of_keys = CUBE_POS < key_cubes;
    let cube = select(of_keys, CUBE_POS, CUBE_POS - key_cubes);
    let columns = select(of_keys, hidden.len() / cut.batch, depth);
    let column = column_of::<N>(cube, columns, cut);
    let moments = moments(x, depth, epsilon, cut);
    let staging = comptime!(cut.batch * cut.tile);
    let mut inputs = SharedMemory::<f32>::new(staging);
    let mut sums = zeros::<N>(cut);
    let mut first = 0usize.runtime();
    while first < depth {
        let mut place = UNIT_POS as usize;
        while place < staging {
            let here = staged(place, first, depth, cut);
            let normal = normal(x, norm_weight, norm_bias, &moments, place, &here, cut);
            let before = last[here.at];
            let mu = select(of_keys, mu_k[here.row], mu_r[here.row]);
            inputs[place] = select(here.exists, before + (normal - before) * mu, 0.0);
            if here.exists && keeps(first, cut) {
                to_last[here.at] = normal;
            }
            place += cut.units();
        }
        sync_cube();
        if of_keys {
            multiply::<W, N>(w_k, &inputs, &mut sums, first, depth, &column, cut);
        } else {
            multiply::<W, N>(w_r, &inputs, &mut sums, first, depth, &column, cut);
        }
        sync_cube();
        first += cut.tile;
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(cut.units()));
    #[unroll]
    for b in 0..cut.batch {
        let sum = total::<N>(&mut shared, sums[b], cut);
        let open = sigmoid::<f32, N>(sum);
        if column.exists {
            #[unroll]
            for i in 0..N::value() {
                let at = b * columns + column.at * N::value() + i;
                if of_keys {
                    // Not by a maximum, which may lose a NaN.
                    hidden[at] = select(sum[i] < 0.0, 0.0, sum[i] * sum[i]);
                } else {
                    gates[at] = open[i];
                }
            }
        }
    }
}

/// The last layer norm and the head.
#[cube(launch)]
pub(super) fn predict<W: Float, N: Size>(
    x: &Tensor<f32>,               // [B, C]
    norm_weight: &Tensor<f32>,     // [C]
    norm_bias: &Tensor<f32>,       // [C]
    weight: &Tensor<Vector<W, N>>, // [C, V]
    logits: &mut Tensor<f32>,      // [B, V]
    epsilon: f32,
    #[comptime] cut: Cut,
    #[define(W)] _dtype: StorageType,
) {
    let depth = norm_weight.len();
    let columns = logits.len() / cut.batch;
    let column = column_of::<N>(CUBE_POS, columns, cut);
    let moments = moments(x, depth, epsilon, cut);
    let staging = comptime!(cut.batch * cut.tile);
    let mut inputs = SharedMemory::<f32>::new(staging);
    let mut sums = zeros::<N>(cut);
    let mut first = 0usize.runtime();
    while first < depth {
        let mut place = UNIT_POS as usize;
        while place < staging {
            let here = staged(place, first, depth, cut);
            let normal = normal(x, norm_weight, norm_bias, &moments, place, &here, cut);
            inputs[place] = select(here.exists, normal, 0.0);
            place += cut.units();
        }
        sync_cube();
        multiply::<W, N>(weight, &inputs, &mut sums, first, depth, &column, cut);
        sync_cube();
        first += cut.tile;
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(cut.units()));
    #[unroll]
    for b in 0..cut.batch {
        let sum = total::<N>(&mut shared, sums[b], cut);
        if column.exists {
            #[unroll]
            for i in 0..N::value() {
                logits[b * columns + column.at * N::value() + i] = sum[i];
            }
        }
    }
}
