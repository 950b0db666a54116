//! The WKV forward pass on the CPU.

use super::{AHEAD, BLOCK, Block, Dims, VECTORS, for_each_block, kernel};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::fresh::zeros;
use crate::ops::cpu::vectors::{exp, ln, store, weights};
use pulp::Simd;

/// What the forward pass reads; `w` is the log-decay, already negative.
pub(in crate::ops) struct Inputs<'a> {
    pub w: &'a [f32],     // [C]
    pub u: &'a [f32],     // [C]
    pub k: &'a [f32],     // [B, T, C]
    pub v: &'a [f32],     // [B, T, C]
    pub state: &'a [f32], // [B, 3, C]: a, b, p
}

/// What the forward pass writes.
pub(super) struct Forward {
    pub y: Vec<f32>,     // [B, T, C]
    pub state: Vec<f32>, // [B, 3, C]
    /// The logarithm of every output's denominator, `[B, T, C]`; empty when nobody asked for it.
    pub lse: Vec<f32>,
}

/// Runs the recurrence over `inputs`; `with_lse` also keeps what the backward pass needs.
pub(super) fn forward(dims: Dims, inputs: &Inputs<'_>, with_lse: bool) -> Forward {
    let mut y = zeros(dims.sequence());
    let mut state = vec![0.0; dims.state()];
    let mut lse = zeros(if with_lse { dims.sequence() } else { 0 });
    {
        let y = Columns::new(&mut y, dims.channels);
        let state = Columns::new(&mut state, dims.channels);
        let lse = with_lse.then(|| Columns::new(&mut lse, dims.channels));
        for_each_block(ForwardBlock, dims, &(dims, inputs, Outputs { y, state, lse }));
    }
    Forward { y, state, lse }
}

/// One token of every batch row, on the calling thread: `y`, `[B, C]`, and `state`, `[B, 3, C]`.
#[inline(always)]
pub(in crate::ops) fn token<S: Simd>(
    simd: S,
    (batch, channels): (usize, usize),
    inputs: Inputs<'_>,
    y: &mut [f32],
    state: &mut [f32],
) {
    let outputs = Outputs { y: Columns::new(y, channels), state: Columns::new(state, channels), lse: None };
    let context = (Dims { batch, time: 1, channels }, &inputs, outputs);
    for batch in 0..batch {
        for start in (0..channels).step_by(BLOCK) {
            run_block(simd, &context, Block { batch, start, len: BLOCK.min(channels - start) });
        }
    }
}

pub(super) struct Outputs<'a> {
    pub y: Columns<'a>,
    pub state: Columns<'a>,
    pub lse: Option<Columns<'a>>,
}

kernel!(ForwardBlock on simd = run_block<'a>((Dims, &'a Inputs<'a>, Outputs<'a>), Block));

#[inline(always)]
pub(super) fn run_block<S: Simd>(simd: S, context: &(Dims, &Inputs<'_>, Outputs<'_>), block: Block) {
    for part in block.parts::<S>() {
        run_part(simd, context, part);
    }
}

#[inline(always)]
fn run_part<S: Simd>(
    simd: S,
    (dims, inputs, Outputs { y, state, lse }): &(Dims, &Inputs<'_>, Outputs<'_>),
    block: Block,
) {
    let Block { batch, len, .. } = block;
    let vectors = len.div_ceil(S::F32_LANES);
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let [mut w, mut u, mut a, mut b] = [[zero; VECTORS]; 4];
    // The exponent p is base + age·w: the key that last led and how many tokens ago that was. A single number would be
    // rounded every token, and a slow decay would drift.
    let [mut base, mut age] = [[zero; VECTORS]; 2];
    for i in 0..vectors {
        w[i] = block.load(simd, inputs.w, dims.channels, 0, i);
        u[i] = block.load(simd, inputs.u, dims.channels, 0, i);
        a[i] = block.load(simd, inputs.state, dims.channels, batch * 3, i);
        b[i] = block.load(simd, inputs.state, dims.channels, batch * 3 + 1, i);
        base[i] = block.load(simd, inputs.state, dims.channels, batch * 3 + 2, i);
    }
    for t in 0..dims.time {
        let token = dims.token(batch, t);
        if t + AHEAD < dims.time {
            block.fetch([inputs.k, inputs.v], dims.channels, token + AHEAD);
        }
        for i in 0..vectors {
            let (column, width) = block.vector::<S>(i);
            let k = block.load(simd, inputs.k, dims.channels, token, i);
            let v = block.load(simd, inputs.v, dims.channels, token, i);

            // The output sees the past at weight e^p and the current token at e^(u+k). Relative to the larger of the
            // two one weight is 1, so one exponential serves both.
            let ahead = simd.sub_f32s(k, base[i]);
            let decayed = simd.mul_f32s(age[i], w[i]);
            let lead = simd.add_f32s(ahead, simd.sub_f32s(u[i], decayed));
            let (past, now) = weights(simd, lead);
            let denominator = simd.mul_add_e_f32s(past, b[i], now);
            let numerator = simd.mul_add_e_f32s(past, a[i], simd.mul_f32s(now, v));
            // SAFETY: this task alone owns columns `start .. start + len` of batch row `batch`, in every matrix.
            store(simd, unsafe { y.row(token, column, width) }, simd.div_f32s(numerator, denominator));
            if let Some(lse) = lse {
                let log = ln(simd, denominator);
                let of_now = simd.add_f32s(k, simd.add_f32s(u[i], log));
                let of_past = simd.add_f32s(base[i], simd.add_f32s(decayed, log));
                let total = simd.select_f32s(simd.greater_than_f32s(lead, zero), of_now, of_past);
                // SAFETY: as above.
                store(simd, unsafe { lse.row(token, column, width) }, total);
            }

            // The state decays by e^w and takes the current token in at e^k.
            let older = simd.add_f32s(age[i], one);
            let lead = simd.sub_f32s(ahead, simd.mul_f32s(older, w[i]));
            let (past, now) = weights(simd, lead);
            a[i] = simd.mul_add_e_f32s(past, a[i], simd.mul_f32s(now, v));
            b[i] = simd.mul_add_e_f32s(past, b[i], now);
            let leads = simd.greater_than_f32s(lead, zero);
            base[i] = simd.select_f32s(leads, k, base[i]);
            age[i] = simd.select_f32s(leads, zero, older);
        }
    }
    for i in 0..vectors {
        // One number for p again. An integer near base + age·w loses nothing: the difference goes into a and b.
        let p = floor::<S>(simd.mul_add_e_f32s(age[i], w[i], base[i]));
        let scale = exp(simd, simd.mul_add_e_f32s(age[i], w[i], simd.sub_f32s(base[i], p)));
        let (column, width) = block.vector::<S>(i);
        let parts = [simd.mul_f32s(a[i], scale), simd.mul_f32s(b[i], scale), p];
        for (part, numbers) in parts.into_iter().enumerate() {
            // SAFETY: as above; the state's row `batch * 3 + part` belongs to this batch row.
            store(simd, unsafe { state.row(batch * 3 + part, column, width) }, numbers);
        }
    }
}

/// The largest integers that are not larger.
#[inline(always)]
fn floor<S: Simd>(numbers: S::f32s) -> S::f32s {
    let mut numbers = numbers;
    for number in bytemuck::cast_slice_mut::<_, f32>(std::slice::from_mut(&mut numbers)) {
        *number = number.floor();
    }
    numbers
}
