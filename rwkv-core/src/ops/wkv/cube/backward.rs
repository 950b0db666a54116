//! The backward kernels of WKV, written once for every CubeCL runtime.
//!
//! The adjoints of `a·eᵖ` and `b·eᵖ` are kept like a state, `(ga, gb)` at an exponent `base + age·w` (see `forward.rs`). The
//! gradient of the decay needs `(ha, hb)` at the same exponent: the same sums, each term times its age.

use super::forward::piece_of;
use cubecl::prelude::*;

/// Adjoints of one channel.
#[derive(CubeType)]
struct Adjoints<S: Float> {
    ga: S,
    gb: S,
    ha: S,
    hb: S,
    base: S,
    age: S,
}

/// The adjoints before one more token, whose output has this gradient.
#[cube]
fn take_in<S: Float>(sums: &mut Adjoints<S>, w: S, y: S, lse: S, gy: S) {
    let older = sums.age + S::new(1.0);
    let lead = (-lse - sums.base) - older * w;
    let smaller = S::exp(-S::abs(lead));
    let old = select(lead > S::new(0.0), smaller, S::new(1.0));
    let new = gy * select(lead > S::new(0.0), S::new(1.0), smaller);
    sums.ha = old * (sums.ga + sums.ha);
    sums.hb = old * (sums.gb + sums.hb);
    sums.ga = old * sums.ga + new;
    sums.gb = old * sums.gb - new * y;
    sums.base = select(lead > S::new(0.0), -lse, sums.base);
    sums.age = select(lead > S::new(0.0), S::new(0.0), older);
}

/// What every chunk adds to the adjoints: those before it, from none after it.
#[cube(launch)]
pub(super) fn summarise<F: Float, S: Float>(
    w: &Tensor<S>,             // [C]
    y: &Tensor<F>,             // [B, T, C]
    lse: &Tensor<S>,           // [B, T, C]
    gy: &Tensor<F>,            // [B, T, C]
    summaries: &mut Tensor<S>, // [B·chunks, 5, C]
    chunk: usize,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = y.shape(2);
    let time = y.shape(1);
    if ABSOLUTE_POS >= summaries.shape(0) * channels {
        terminate!();
    }
    let piece = piece_of(ABSOLUTE_POS, time, channels, chunk);
    // Nothing comes before the first chunk of a sequence.
    if piece.start == 0 {
        terminate!();
    }
    let w = w[piece.channel];
    let mut at = (piece.batch * time + piece.end - 1) * channels + piece.channel;
    let last = S::cast_from(gy[at]);
    let mut sums = Adjoints::<S> {
        ga: last,
        gb: -last * S::cast_from(y[at]),
        ha: S::new(0.0),
        hb: S::new(0.0),
        base: -lse[at],
        age: S::new(0.0),
    };
    for _ in piece.start + 1..piece.end {
        at -= channels;
        take_in::<S>(&mut sums, w, S::cast_from(y[at]), lse[at], S::cast_from(gy[at]));
    }
    let m = S::floor(sums.base + sums.age * w);
    let scale = S::exp((sums.base - m) + sums.age * w);
    let row = piece.piece * 5 * channels + piece.channel;
    summaries[row] = sums.ga * scale;
    summaries[row + channels] = sums.gb * scale;
    summaries[row + 2 * channels] = m;
    summaries[row + 3 * channels] = sums.ha * scale;
    summaries[row + 4 * channels] = sums.hb * scale;
}

/// The adjoints at the end of every chunk. One unit runs one batch row and channel from the last chunk to the first.
#[cube(launch)]
pub(super) fn scan<S: Float>(
    w: &Tensor<S>,         // [C]
    adjoint: &Tensor<S>,   // [B, 3, C]
    summaries: &Tensor<S>, // [B·chunks, 5, C]; those of the first chunks are not there
    ends: &mut Tensor<S>,  // [B·chunks, 5, C]
    time: usize,
    chunk: usize,
    #[define(S)] _dtype: StorageType,
) {
    let channels = adjoint.shape(2);
    let batches = adjoint.shape(0);
    if ABSOLUTE_POS >= batches * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let batch = ABSOLUTE_POS / channels;
    let chunks = ends.shape(0) / batches;
    let row = batch * 3 * channels + channel;
    let mut ga = adjoint[row];
    let mut gb = adjoint[row + channels];
    let mut m = adjoint[row + 2 * channels];
    let mut ha = S::new(0.0);
    let mut hb = S::new(0.0);
    let w = w[channel];
    // The last chunk may be shorter than the others.
    let mut length = S::cast_from(time - (chunks - 1) * chunk);
    for i in 0..chunks {
        let row = (batch * chunks + chunks - 1 - i) * 5 * channels + channel;
        ends[row] = ga;
        ends[row + channels] = gb;
        ends[row + 2 * channels] = m;
        ends[row + 3 * channels] = ha;
        ends[row + 4 * channels] = hb;
        if i + 1 < chunks {
            let decay = length * w;
            let added = summaries[row + 2 * channels];
            let next = max(added, S::floor(m + decay));
            let old = S::exp((m - next) + decay);
            let new = S::exp(added - next);
            ha = old * (ha + length * ga) + new * summaries[row + 3 * channels];
            hb = old * (hb + length * gb) + new * summaries[row + 4 * channels];
            ga = old * ga + new * summaries[row];
            gb = old * gb + new * summaries[row + channels];
            m = next;
            length = S::cast_from(chunk);
        }
    }
}

/// The gradients. One unit runs one chunk of one batch row and channel from the last token to the first.
#[cube(launch)]
pub(super) fn run<F: Float, S: Float>(
    w: &Tensor<S>,           // [C]
    u: &Tensor<S>,           // [C]
    k: &Tensor<F>,           // [B, T, C]
    v: &Tensor<F>,           // [B, T, C]
    state: &Tensor<S>,       // [B, 3, C]
    y: &Tensor<F>,           // [B, T, C]
    lse: &Tensor<S>,         // [B, T, C]
    gy: &Tensor<F>,          // [B, T, C]
    ends: &Tensor<S>,        // [B, 3, C], or [B·chunks, 5, C] with `aged`
    gk: &mut Tensor<F>,      // [B, T, C]
    gv: &mut Tensor<F>,      // [B, T, C]
    g_state: &mut Tensor<S>, // [B, 3, C]
    g_decay: &mut Tensor<S>, // [B·chunks, C]
    g_bonus: &mut Tensor<S>, // [B·chunks, C]
    chunk: usize,
    #[comptime] aged: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    if ABSOLUTE_POS >= g_decay.shape(0) * channels {
        terminate!();
    }
    let piece = piece_of(ABSOLUTE_POS, time, channels, chunk);
    let rows = comptime!(if aged { 5usize } else { 3usize }).runtime();
    let row = piece.piece * rows * channels + piece.channel;
    let mut sums = Adjoints::<S> {
        ga: ends[row],
        gb: ends[row + channels],
        ha: S::new(0.0),
        hb: S::new(0.0),
        base: ends[row + 2 * channels],
        age: S::new(0.0),
    };
    if comptime!(aged) {
        sums.ha = ends[row + 3 * channels];
        sums.hb = ends[row + 4 * channels];
    }

    let w = w[piece.channel];
    let u = u[piece.channel];
    let mut gw = S::new(0.0);
    let mut gu = S::new(0.0);
    let mut at = (piece.batch * time + piece.end) * channels + piece.channel;
    for _ in piece.start..piece.end {
        at -= channels;
        let k_t = S::cast_from(k[at]);
        let v_t = S::cast_from(v[at]);
        let y_t = S::cast_from(y[at]);
        let gy_t = S::cast_from(gy[at]);
        let lse_t = lse[at];

        let direct = gy_t * S::exp((k_t - lse_t) + u);
        let direct_k = direct * (v_t - y_t);
        let carried = S::exp((k_t + sums.base) + sums.age * w);
        gk[at] = F::cast_from(direct_k + carried * (sums.ga * v_t + sums.gb));
        gv[at] = F::cast_from(direct + carried * sums.ga);
        gu += direct_k;
        gw += carried * (sums.ha * v_t + sums.hb);
        take_in::<S>(&mut sums, w, y_t, lse_t, gy_t);
    }
    if piece.start == 0 {
        let row = piece.batch * 3 * channels + piece.channel;
        let a = state[row];
        let b = state[row + channels];
        let scale = S::exp((sums.base + state[row + 2 * channels]) + sums.age * w);
        let to_a = scale * sums.ga;
        let to_b = scale * sums.gb;
        g_state[row] = to_a;
        g_state[row + channels] = to_b;
        g_state[row + 2 * channels] = a * to_a + b * to_b;
        gw += scale * (a * sums.ha + b * sums.hb);
    }
    let row = piece.piece * channels + piece.channel;
    g_decay[row] = gw;
    g_bonus[row] = gu;
}
