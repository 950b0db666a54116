//! The forward kernels of WKV, written once for every CubeCL runtime.
//!
//! `F` is the dtype of the activations in memory, `S` that of the state and of all arithmetic. The only constants
//! are 0 and 1: the sentinel of the empty state arrives as data, because WGSL refuses some extreme literals.
//!
//! The exponent `p` of a state is `base + age·w` inside a chunk: the key that last led and how many tokens ago that was.
//! A single number would be rounded every token, and a slow decay would drift. Between chunks and calls it is one number
//! again, an integer near `base + age·w`, which loses nothing: the difference goes into `a` and `b`.

use cubecl::prelude::*;

/// Which part of which sequence a unit takes: chunk `piece` of all chunks of the batch.
#[derive(CubeType)]
pub(super) struct Piece {
    pub piece: usize,
    pub batch: usize,
    pub channel: usize,
    /// The first token, and the one after the last.
    pub start: usize,
    pub end: usize,
}

#[cube]
pub(super) fn piece_of(unit: usize, time: usize, channels: usize, chunk: usize) -> Piece {
    let piece = unit / channels;
    let chunks = time.div_ceil(chunk);
    let start = piece % chunks * chunk;
    Piece { piece, batch: piece / chunks, channel: unit % channels, start, end: min(start + chunk, time) }
}

/// A state of one channel, `(a, b)` at the exponent `base + age·w`.
#[derive(CubeType)]
pub(in crate::ops) struct Sums<S: Float> {
    pub a: S,
    pub b: S,
    pub base: S,
    pub age: S,
}

/// What the state and the token at hand weigh in the token's output, `(past·a + now·v)/denominator`.
#[derive(CubeType)]
pub(in crate::ops) struct Weights<S: Float> {
    /// The exponent of the token over that of the state.
    pub lead: S,
    pub past: S,
    pub now: S,
    pub denominator: S,
}

#[cube]
pub(in crate::ops) fn weigh<S: Float>(sums: &Sums<S>, w: S, u: S, k: S) -> Weights<S> {
    let lead = (k - sums.base) + (u - sums.age * w);
    let smaller = S::exp(-S::abs(lead));
    let past = select(lead > S::new(0.0), smaller, S::new(1.0));
    let now = select(lead > S::new(0.0), S::new(1.0), smaller);
    Weights::<S> { lead, past, now, denominator: past * sums.b + now }
}

/// The state after one more token: `a ← e^w·a + e^k·v`, `b ← e^w·b + e^k`.
#[cube]
pub(in crate::ops) fn take_in<S: Float>(sums: &mut Sums<S>, w: S, k: S, v: S) {
    let older = sums.age + S::new(1.0);
    let lead = (k - sums.base) - older * w;
    let smaller = S::exp(-S::abs(lead));
    let past = select(lead > S::new(0.0), smaller, S::new(1.0));
    let now = select(lead > S::new(0.0), S::new(1.0), smaller);
    sums.a = past * sums.a + now * v;
    sums.b = past * sums.b + now;
    sums.base = select(lead > S::new(0.0), k, sums.base);
    sums.age = select(lead > S::new(0.0), S::new(0.0), older);
}

/// Reads `(a, b, p)`.
#[cube]
pub(in crate::ops) fn load<S: Float>(states: &Tensor<S>, row: usize, channels: usize) -> Sums<S> {
    Sums::<S> { a: states[row], b: states[row + channels], base: states[row + 2 * channels], age: S::new(0.0) }
}

/// Writes `(a, b, p)` with one number for the exponent.
#[cube]
pub(in crate::ops) fn store<S: Float>(sums: &Sums<S>, w: S, states: &mut Tensor<S>, row: usize, channels: usize) {
    let p = S::floor(sums.base + sums.age * w);
    let scale = S::exp((sums.base - p) + sums.age * w);
    states[row] = sums.a * scale;
    states[row + channels] = sums.b * scale;
    states[row + 2 * channels] = p;
}

/// What every chunk adds to a state: the state after it, from an empty one.
#[cube(launch)]
pub(super) fn summarise<F: Float, S: Float>(
    w: &Tensor<S>,             // [C]
    k: &Tensor<F>,             // [B, T, C]
    v: &Tensor<F>,             // [B, T, C]
    summaries: &mut Tensor<S>, // [B·chunks, 3, C]
    chunk: usize,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    if ABSOLUTE_POS >= summaries.shape(0) * channels {
        terminate!();
    }
    let piece = piece_of(ABSOLUTE_POS, time, channels, chunk);
    // Nothing starts from the last chunk of a sequence.
    if piece.end == time {
        terminate!();
    }
    let w = w[piece.channel];
    let mut at = (piece.batch * time + piece.start) * channels + piece.channel;
    let mut sums = Sums::<S> { a: S::cast_from(v[at]), b: S::new(1.0), base: S::cast_from(k[at]), age: S::new(0.0) };
    for _ in piece.start + 1..piece.end {
        at += channels;
        take_in::<S>(&mut sums, w, S::cast_from(k[at]), S::cast_from(v[at]));
    }
    store::<S>(&sums, w, summaries, piece.piece * 3 * channels + piece.channel, channels);
}

/// The state that every chunk starts from. One unit runs one batch row and channel from the first chunk to the last.
#[cube(launch)]
pub(super) fn scan<S: Float>(
    w: &Tensor<S>,          // [C]
    state: &Tensor<S>,      // [B, 3, C]
    summaries: &Tensor<S>,  // [B·chunks, 3, C]; those of the last chunks are not there
    starts: &mut Tensor<S>, // [B·chunks, 3, C]
    chunk: usize,
    #[define(S)] _dtype: StorageType,
) {
    let channels = state.shape(2);
    let batches = state.shape(0);
    if ABSOLUTE_POS >= batches * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let batch = ABSOLUTE_POS / channels;
    let chunks = starts.shape(0) / batches;
    let row = batch * 3 * channels + channel;
    let mut a = state[row];
    let mut b = state[row + channels];
    let mut p = state[row + 2 * channels];
    let decay = w[channel] * S::cast_from(chunk);
    for i in 0..chunks {
        let row = (batch * chunks + i) * 3 * channels + channel;
        starts[row] = a;
        starts[row + channels] = b;
        starts[row + 2 * channels] = p;
        if i + 1 < chunks {
            let added = summaries[row + 2 * channels];
            let next = max(added, S::floor(p + decay));
            let past = S::exp((p - next) + decay);
            let now = S::exp(added - next);
            a = past * a + now * summaries[row];
            b = past * b + now * summaries[row + channels];
            p = next;
        }
    }
}

/// The outputs. One unit runs one chunk of one batch row and channel from the first token to the last.
#[cube(launch)]
pub(super) fn run<F: Float, S: Float>(
    w: &Tensor<S>,             // [C]
    u: &Tensor<S>,             // [C]
    k: &Tensor<F>,             // [B, T, C]
    v: &Tensor<F>,             // [B, T, C]
    starts: &Tensor<S>,        // [B·chunks, 3, C]
    y: &mut Tensor<F>,         // [B, T, C]
    new_state: &mut Tensor<S>, // [B, 3, C]
    lse: &mut Tensor<S>,       // [B, T, C], or one element when not wanted
    chunk: usize,
    #[comptime] with_lse: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    if ABSOLUTE_POS >= starts.shape(0) * channels {
        terminate!();
    }
    let piece = piece_of(ABSOLUTE_POS, time, channels, chunk);
    let row = piece.piece * 3 * channels + piece.channel;
    let w = w[piece.channel];
    let u = u[piece.channel];
    let mut sums = load::<S>(starts, row, channels);
    let mut at = (piece.batch * time + piece.start) * channels + piece.channel;
    for _ in piece.start..piece.end {
        let k_t = S::cast_from(k[at]);
        let v_t = S::cast_from(v[at]);

        let weights = weigh::<S>(&sums, w, u, k_t);
        y[at] = F::cast_from((weights.past * sums.a + weights.now * v_t) / weights.denominator);
        if with_lse {
            let log = S::ln(weights.denominator);
            lse[at] = select(weights.lead > S::new(0.0), k_t + (u + log), sums.base + (sums.age * w + log));
        }
        take_in::<S>(&mut sums, w, k_t, v_t);
        at += channels;
    }
    if piece.end == time {
        store::<S>(&sums, w, new_state, piece.batch * 3 * channels + piece.channel, channels);
    }
}
