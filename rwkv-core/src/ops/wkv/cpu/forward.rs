//! The WKV forward pass on the CPU.

use super::{BLOCK, Block, Dims, for_each_block, kernel};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::fresh::zeros;
use crate::ops::cpu::lanes::{LANES, Lanes, exp, ln, load, map, store, weights};

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
pub(in crate::ops) fn token(batch: usize, channels: usize, inputs: Inputs<'_>, y: &mut [f32], state: &mut [f32]) {
    let outputs = Outputs { y: Columns::new(y, channels), state: Columns::new(state, channels), lse: None };
    let context = (Dims { batch, time: 1, channels }, &inputs, outputs);
    for batch in 0..batch {
        for start in (0..channels).step_by(BLOCK) {
            run_block(&context, Block { batch, start, len: BLOCK.min(channels - start) });
        }
    }
}

struct Outputs<'a> {
    y: Columns<'a>,
    state: Columns<'a>,
    lse: Option<Columns<'a>>,
}

kernel!(ForwardBlock = run_block<'a>((Dims, &'a Inputs<'a>, Outputs<'a>), Block));

#[inline(always)]
fn run_block((dims, inputs, Outputs { y, state, lse }): &(Dims, &Inputs<'_>, Outputs<'_>), block: Block) {
    const VECTORS: usize = BLOCK / LANES;
    let Block { batch, start, len } = block;
    let row = |data: &[f32], row: usize, vector: usize| -> Lanes {
        let begin = row * dims.channels + start + vector * LANES;
        load(&data[begin..begin + LANES.min(len - vector * LANES)])
    };
    let vectors = len.div_ceil(LANES);
    let mut w = [[0.0; LANES]; VECTORS];
    let mut u = [[0.0; LANES]; VECTORS];
    let mut a = [[0.0; LANES]; VECTORS];
    let mut b = [[0.0; LANES]; VECTORS];
    // The exponent p is base + age·w: the key that last led and how many tokens ago that was. A single number would be
    // rounded every token, and a slow decay would drift.
    let mut base = [[0.0; LANES]; VECTORS];
    let mut age = [[0.0; LANES]; VECTORS];
    for i in 0..vectors {
        w[i] = row(inputs.w, 0, i);
        u[i] = row(inputs.u, 0, i);
        a[i] = row(inputs.state, batch * 3, i);
        b[i] = row(inputs.state, batch * 3 + 1, i);
        base[i] = row(inputs.state, batch * 3 + 2, i);
    }
    for t in 0..dims.time {
        let token = dims.token(batch, t);
        for i in 0..vectors {
            let column = start + i * LANES;
            let width = LANES.min(len - i * LANES);
            let k = row(inputs.k, token, i);
            let v = row(inputs.v, token, i);

            // The output sees the past at weight e^p and the current token at e^(u+k). Relative to the larger of the
            // two one weight is 1, so one exponential serves both.
            let lead = map(|j| (k[j] - base[i][j]) + (u[i][j] - age[i][j] * w[i][j]));
            let (past, now) = weights(&lead);
            let denominator = map(|j| past[j] * b[i][j] + now[j]);
            let out = map(|j| (past[j] * a[i][j] + now[j] * v[j]) / denominator[j]);
            // SAFETY: this task alone owns columns `start .. start + len` of batch row `batch`, in every matrix.
            store(unsafe { y.row(token, column, width) }, &out);
            if let Some(lse) = lse {
                let log = ln(&denominator);
                let total = map(|j| {
                    if lead[j] > 0.0 { k[j] + (u[i][j] + log[j]) } else { base[i][j] + (age[i][j] * w[i][j] + log[j]) }
                });
                // SAFETY: as above.
                store(unsafe { lse.row(token, column, width) }, &total);
            }

            // The state decays by e^w and takes the current token in at e^k.
            let older = map(|j| age[i][j] + 1.0);
            let lead = map(|j| (k[j] - base[i][j]) - older[j] * w[i][j]);
            let (past, now) = weights(&lead);
            a[i] = map(|j| past[j] * a[i][j] + now[j] * v[j]);
            b[i] = map(|j| past[j] * b[i][j] + now[j]);
            base[i] = map(|j| if lead[j] > 0.0 { k[j] } else { base[i][j] });
            age[i] = map(|j| if lead[j] > 0.0 { 0.0 } else { older[j] });
        }
    }
    for i in 0..vectors {
        // One number for p again. An integer near base + age·w loses nothing: the difference goes into a and b.
        let p = map(|j| (base[i][j] + age[i][j] * w[i][j]).floor());
        let scale = exp(&map(|j| (base[i][j] - p[j]) + age[i][j] * w[i][j]));
        a[i] = map(|j| a[i][j] * scale[j]);
        b[i] = map(|j| b[i][j] * scale[j]);
        let column = start + i * LANES;
        let width = LANES.min(len - i * LANES);
        for (part, lanes) in [&a[i], &b[i], &p].into_iter().enumerate() {
            // SAFETY: as above; the state's row `batch * 3 + part` belongs to this batch row.
            store(unsafe { state.row(batch * 3 + part, column, width) }, lanes);
        }
    }
}
