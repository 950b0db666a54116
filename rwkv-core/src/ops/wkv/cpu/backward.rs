//! The WKV backward pass on the CPU: one sweep from the last token to the first.

use super::{BLOCK, Block, Dims, for_each_block, kernel};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::fresh::zeros;
use crate::ops::cpu::lanes::{LANES, Lanes, exp, load, map, store, weights};

/// What the backward pass reads: the forward pass's inputs and outputs, and the gradients that arrive.
pub(super) struct Saved<'a> {
    pub w: &'a [f32],       // [C]
    pub u: &'a [f32],       // [C]
    pub k: &'a [f32],       // [B, T, C]
    pub v: &'a [f32],       // [B, T, C]
    pub state: &'a [f32],   // [B, 3, C], the initial one
    pub y: &'a [f32],       // [B, T, C]
    pub lse: &'a [f32],     // [B, T, C]
    pub gy: &'a [f32],      // [B, T, C]
    pub adjoint: &'a [f32], // [B, 3, C]: the final state's (GA, GB; m)
}

/// What the backward pass writes.
pub(super) struct Gradients {
    pub w: Vec<f32>,     // [C]
    pub u: Vec<f32>,     // [C]
    pub k: Vec<f32>,     // [B, T, C]
    pub v: Vec<f32>,     // [B, T, C]
    pub state: Vec<f32>, // [B, 3, C]
}

/// Gradients of every input of the forward pass.
pub(super) fn backward(dims: Dims, saved: &Saved<'_>) -> Gradients {
    let Dims { batch, channels, .. } = dims;
    let mut gk = zeros(dims.sequence());
    let mut gv = zeros(dims.sequence());
    let mut state = vec![0.0; dims.state()];
    // Rows 2b and 2b + 1: the decay's and the bonus's gradient from batch row b.
    let mut partial = vec![0.0; batch * 2 * channels];
    {
        let out = Outputs {
            k: Columns::new(&mut gk, channels),
            v: Columns::new(&mut gv, channels),
            state: Columns::new(&mut state, channels),
            partial: Columns::new(&mut partial, channels),
        };
        for_each_block(BackwardBlock, dims, &(dims, saved, out));
    }
    // Summed in batch order, so that the result does not depend on the threads.
    let mut w = vec![0.0; channels];
    let mut u = vec![0.0; channels];
    for rows in partial.chunks_exact(2 * channels) {
        let (from_w, from_u) = rows.split_at(channels);
        w.iter_mut().zip(from_w).for_each(|(sum, x)| *sum += x);
        u.iter_mut().zip(from_u).for_each(|(sum, x)| *sum += x);
    }
    Gradients { w, u, k: gk, v: gv, state }
}

struct Outputs<'a> {
    k: Columns<'a>,
    v: Columns<'a>,
    state: Columns<'a>,
    partial: Columns<'a>,
}

kernel!(BackwardBlock = run_block<'a>((Dims, &'a Saved<'a>, Outputs<'a>), Block));

#[inline(always)]
fn run_block((dims, saved, out): &(Dims, &Saved<'_>, Outputs<'_>), block: Block) {
    const VECTORS: usize = BLOCK / LANES;
    const ZERO: [Lanes; VECTORS] = [[0.0; LANES]; VECTORS];
    let Block { batch, start, len } = block;
    let row = |data: &[f32], row: usize, vector: usize| -> Lanes {
        let begin = row * dims.channels + start + vector * LANES;
        load(&data[begin..begin + LANES.min(len - vector * LANES)])
    };
    let vectors = len.div_ceil(LANES);
    let (mut w, mut u) = (ZERO, ZERO);
    // Adjoints of the true state (A, B) are (ga, gb)·e^m, and (ha, hb)·e^m sum them once more, for the decay. The
    // exponent m is base + age·w, as p in the forward pass.
    let (mut ga, mut gb, mut ha, mut hb) = (ZERO, ZERO, ZERO, ZERO);
    let (mut base, mut age) = (ZERO, ZERO);
    let (mut gw, mut gu) = (ZERO, ZERO);
    for i in 0..vectors {
        w[i] = row(saved.w, 0, i);
        u[i] = row(saved.u, 0, i);
        ga[i] = row(saved.adjoint, batch * 3, i);
        gb[i] = row(saved.adjoint, batch * 3 + 1, i);
        base[i] = row(saved.adjoint, batch * 3 + 2, i);
    }
    for t in (0..dims.time).rev() {
        let token = dims.token(batch, t);
        for i in 0..vectors {
            let column = start + i * LANES;
            let width = LANES.min(len - i * LANES);
            let k = row(saved.k, token, i);
            let v = row(saved.v, token, i);
            let y = row(saved.y, token, i);
            let lse = row(saved.lse, token, i);
            let gy = row(saved.gy, token, i);

            // Through the output: the current token's share of the average.
            let share = exp(&map(|j| (k[j] - lse[j]) + u[i][j]));
            let direct = map(|j| gy[j] * share[j]);
            let direct_k = map(|j| direct[j] * (v[j] - y[j]));
            // Through the state: what later tokens make of this one.
            let carried = exp(&map(|j| (k[j] + base[i][j]) + age[i][j] * w[i][j]));
            let gk = map(|j| direct_k[j] + carried[j] * (ga[i][j] * v[j] + gb[i][j]));
            let gv = map(|j| direct[j] + carried[j] * ga[i][j]);
            gu[i] = map(|j| gu[i][j] + direct_k[j]);
            gw[i] = map(|j| gw[i][j] + carried[j] * (ha[i][j] * v[j] + hb[i][j]));
            // SAFETY: this task alone owns columns `start .. start + len` of batch row `batch`, in every matrix.
            store(unsafe { out.k.row(token, column, width) }, &gk);
            // SAFETY: as above.
            store(unsafe { out.v.row(token, column, width) }, &gv);

            // One token back: the adjoints decay by e^w and take this output's in, at e^−lse.
            let older = map(|j| age[i][j] + 1.0);
            let lead = map(|j| (-lse[j] - base[i][j]) - older[j] * w[i][j]);
            let (old, new) = weights(&lead);
            let new = map(|j| gy[j] * new[j]);
            ha[i] = map(|j| old[j] * (ga[i][j] + ha[i][j]));
            hb[i] = map(|j| old[j] * (gb[i][j] + hb[i][j]));
            ga[i] = map(|j| old[j] * ga[i][j] + new[j]);
            gb[i] = map(|j| old[j] * gb[i][j] - new[j] * y[j]);
            base[i] = map(|j| if lead[j] > 0.0 { -lse[j] } else { base[i][j] });
            age[i] = map(|j| if lead[j] > 0.0 { 0.0 } else { older[j] });
        }
    }
    for i in 0..vectors {
        let column = start + i * LANES;
        let width = LANES.min(len - i * LANES);
        let a = row(saved.state, batch * 3, i);
        let b = row(saved.state, batch * 3 + 1, i);
        let p = row(saved.state, batch * 3 + 2, i);
        let scale = exp(&map(|j| (base[i][j] + p[j]) + age[i][j] * w[i][j]));
        let to_a = map(|j| scale[j] * ga[i][j]);
        let to_b = map(|j| scale[j] * gb[i][j]);
        let to_p = map(|j| a[j] * to_a[j] + b[j] * to_b[j]);
        gw[i] = map(|j| gw[i][j] + scale[j] * (a[j] * ha[i][j] + b[j] * hb[i][j]));
        for (part, lanes) in [&to_a, &to_b, &to_p].into_iter().enumerate() {
            // SAFETY: as above; the state's row `batch * 3 + part` belongs to this batch row.
            store(unsafe { out.state.row(batch * 3 + part, column, width) }, lanes);
        }
        for (part, lanes) in [&gw[i], &gu[i]].into_iter().enumerate() {
            // SAFETY: as above; rows `2 * batch` and `2 * batch + 1` belong to this batch row.
            store(unsafe { out.partial.row(batch * 2 + part, column, width) }, lanes);
        }
    }
}
