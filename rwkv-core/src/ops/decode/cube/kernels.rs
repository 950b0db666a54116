//! The kernels of the decoding step, written once for every CubeCL runtime: products with what lies before and after them.
//!
//! What lies before, a layer norm and token shift, every cube computes for itself: its numbers are in the cache, and it saves a
//! launch. For one sequence a unit loads some 180 of them beside 240 vectors of weights at a width of 5120 (counted, not timed).

use super::product::{Cut, column_of, keeps, moments, multiply, normal, staged, total, zeros};
use crate::ops::gate::cube::sigmoid;
use crate::ops::wkv::cube::forward::{load, store, take_in, weigh};
use cubecl::prelude::*;

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
                store::<f32>(&mut sums, w, to_memory, row, channels);
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
