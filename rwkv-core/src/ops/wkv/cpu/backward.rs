//! The WKV backward pass on the CPU: one sweep from the last token to the first.

use super::{AHEAD, Block, Dims, VECTORS, for_each_block, kernel};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::fresh::zeros;
use crate::ops::cpu::vectors::{exp, store, weights};
use pulp::Simd;

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

pub(super) struct Outputs<'a> {
    pub k: Columns<'a>,
    pub v: Columns<'a>,
    pub state: Columns<'a>,
    pub partial: Columns<'a>,
}

kernel!(BackwardBlock on simd = run_block<'a>((Dims, &'a Saved<'a>, Outputs<'a>), Block));

#[inline(always)]
pub(super) fn run_block<S: Simd>(simd: S, context: &(Dims, &Saved<'_>, Outputs<'_>), block: Block) {
    for part in block.parts::<S>() {
        run_part(simd, context, part);
    }
}

#[inline(always)]
fn run_part<S: Simd>(simd: S, (dims, saved, out): &(Dims, &Saved<'_>, Outputs<'_>), block: Block) {
    let Block { batch, len, .. } = block;
    let vectors = len.div_ceil(S::F32_LANES);
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let [mut w, mut u] = [[zero; VECTORS]; 2];
    // Adjoints of the true state (A, B) are (ga, gb)·e^m, and (ha, hb)·e^m sum them once more, for the decay. The
    // exponent m is base + age·w, as p in the forward pass.
    let [mut ga, mut gb, mut ha, mut hb] = [[zero; VECTORS]; 4];
    let [mut base, mut age, mut gw, mut gu] = [[zero; VECTORS]; 4];
    for i in 0..vectors {
        w[i] = block.load(simd, saved.w, dims.channels, 0, i);
        u[i] = block.load(simd, saved.u, dims.channels, 0, i);
        ga[i] = block.load(simd, saved.adjoint, dims.channels, batch * 3, i);
        gb[i] = block.load(simd, saved.adjoint, dims.channels, batch * 3 + 1, i);
        base[i] = block.load(simd, saved.adjoint, dims.channels, batch * 3 + 2, i);
    }
    for t in (0..dims.time).rev() {
        let token = dims.token(batch, t);
        if t >= AHEAD {
            let matrices = [saved.k, saved.v, saved.y, saved.lse, saved.gy];
            block.fetch(matrices, dims.channels, token - AHEAD);
        }
        for i in 0..vectors {
            let (column, width) = block.vector::<S>(i);
            let k = block.load(simd, saved.k, dims.channels, token, i);
            let v = block.load(simd, saved.v, dims.channels, token, i);
            let y = block.load(simd, saved.y, dims.channels, token, i);
            let lse = block.load(simd, saved.lse, dims.channels, token, i);
            let gy = block.load(simd, saved.gy, dims.channels, token, i);

            // Through the output: the current token's share of the average.
            let share = exp(simd, simd.add_f32s(simd.sub_f32s(k, lse), u[i]));
            let direct = simd.mul_f32s(gy, share);
            let direct_k = simd.mul_f32s(direct, simd.sub_f32s(v, y));
            // Through the state: what later tokens make of this one.
            let exponent = simd.add_f32s(simd.add_f32s(k, base[i]), simd.mul_f32s(age[i], w[i]));
            let carried = exp(simd, exponent);
            let gk = simd.mul_add_e_f32s(carried, simd.mul_add_e_f32s(ga[i], v, gb[i]), direct_k);
            let gv = simd.mul_add_e_f32s(carried, ga[i], direct);
            gu[i] = simd.add_f32s(gu[i], direct_k);
            gw[i] = simd.mul_add_e_f32s(carried, simd.mul_add_e_f32s(ha[i], v, hb[i]), gw[i]);
            // SAFETY: this task alone owns columns `start .. start + len` of batch row `batch`, in every matrix.
            store(simd, unsafe { out.k.row(token, column, width) }, gk);
            // SAFETY: as above.
            store(simd, unsafe { out.v.row(token, column, width) }, gv);

            // One token back: the adjoints decay by e^w and take this output's in, at e^−lse.
            let older = simd.add_f32s(age[i], one);
            let fresh = simd.neg_f32s(lse);
            let lead = simd.sub_f32s(simd.sub_f32s(fresh, base[i]), simd.mul_f32s(older, w[i]));
            let (old, new) = weights(simd, lead);
            let new = simd.mul_f32s(gy, new);
            ha[i] = simd.mul_f32s(old, simd.add_f32s(ga[i], ha[i]));
            hb[i] = simd.mul_f32s(old, simd.add_f32s(gb[i], hb[i]));
            ga[i] = simd.mul_add_e_f32s(old, ga[i], new);
            gb[i] = simd.sub_f32s(simd.mul_f32s(old, gb[i]), simd.mul_f32s(new, y));
            let leads = simd.greater_than_f32s(lead, zero);
            base[i] = simd.select_f32s(leads, fresh, base[i]);
            age[i] = simd.select_f32s(leads, zero, older);
        }
    }
    for i in 0..vectors {
        let (column, width) = block.vector::<S>(i);
        let a = block.load(simd, saved.state, dims.channels, batch * 3, i);
        let b = block.load(simd, saved.state, dims.channels, batch * 3 + 1, i);
        let p = block.load(simd, saved.state, dims.channels, batch * 3 + 2, i);
        let exponent = simd.add_f32s(simd.add_f32s(base[i], p), simd.mul_f32s(age[i], w[i]));
        let scale = exp(simd, exponent);
        let to_a = simd.mul_f32s(scale, ga[i]);
        let to_b = simd.mul_f32s(scale, gb[i]);
        let to_p = simd.mul_add_e_f32s(a, to_a, simd.mul_f32s(b, to_b));
        let along = simd.mul_add_e_f32s(a, ha[i], simd.mul_f32s(b, hb[i]));
        let to_w = simd.mul_add_e_f32s(scale, along, gw[i]);
        for (part, numbers) in [to_a, to_b, to_p].into_iter().enumerate() {
            // SAFETY: as above; the state's row `batch * 3 + part` belongs to this batch row.
            store(simd, unsafe { out.state.row(batch * 3 + part, column, width) }, numbers);
        }
        for (part, numbers) in [to_w, gu[i]].into_iter().enumerate() {
            // SAFETY: as above; rows `2 * batch` and `2 * batch + 1` belong to this batch row.
            store(simd, unsafe { out.partial.row(batch * 2 + part, column, width) }, numbers);
        }
    }
}
