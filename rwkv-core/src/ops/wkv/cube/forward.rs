//! The forward kernel of WKV, written once for every CubeCL runtime.
//!
//! `F` is the dtype of the activations in memory, `S` that of the state and of all arithmetic. The only constants
//! are 0 and 1: the sentinel of the empty state arrives as data, because WGSL refuses some extreme literals.
//!
//! The exponent `p` of a state is `base + age·w` inside a segment: the key that last led and how many tokens ago that was.
//! A single number would be rounded every token, and a slow decay would drift. Between segments of units that share a
//! sequence, and between calls, it is one number again, an integer near `base + age·w`, which loses nothing: the difference
//! goes into `a` and `b`.

use super::cut::{Cut, Place, ends_with, place_of, read, tokens_of};
use cubecl::prelude::*;

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

/// Gives the state one number for its exponent.
#[cube]
fn settle<S: Float>(sums: &mut Sums<S>, w: S) {
    let p = S::floor(sums.base + sums.age * w);
    let scale = S::exp((sums.base - p) + sums.age * w);
    sums.a *= scale;
    sums.b *= scale;
    sums.base = p;
    sums.age = S::new(0.0);
}

/// Reads `(a, b, p)`.
#[cube]
pub(in crate::ops) fn load<S: Float>(states: &Tensor<S>, row: usize, channels: usize) -> Sums<S> {
    Sums::<S> { a: states[row], b: states[row + channels], base: states[row + 2 * channels], age: S::new(0.0) }
}

/// Writes `(a, b, p)` with one number for the exponent.
#[cube]
pub(in crate::ops) fn store<S: Float>(sums: &mut Sums<S>, w: S, states: &mut Tensor<S>, row: usize, channels: usize) {
    settle::<S>(sums, w);
    states[row] = sums.a;
    states[row + channels] = sums.b;
    states[row + 2 * channels] = sums.base;
}

/// The outputs and the final state.
#[cube(launch)]
pub(super) fn run<F: Float, S: Float>(
    w: &Tensor<S>,             // [C]
    u: &Tensor<S>,             // [C]
    k: &Tensor<F>,             // [B, T, C]
    v: &Tensor<F>,             // [B, T, C]
    state: &Tensor<S>,         // [B, 3, C]
    y: &mut Tensor<F>,         // [B, T, C]
    new_state: &mut Tensor<S>, // [B, 3, C]
    lse: &mut Tensor<S>,       // [B, T, C], or one element when not wanted
    #[comptime] cut: Cut,
    #[comptime] with_lse: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let place = place_of(state.shape(0) * channels, channels, cut);
    let w = w[place.channel];
    let u = u[place.channel];
    let row = place.batch * 3 * channels + place.channel;
    let mut sums = load::<S>(state, row, channels);
    if comptime!(cut.is_plain()) {
        let first = place.batch * time * channels + place.channel;
        for i in 0..select(place.exists, time, 0) {
            let at = first + i * channels;
            output::<F, S>(&mut sums, w, u, S::cast_from(k[at]), S::cast_from(v[at]), y, lse, at, with_lse);
        }
    } else {
        windows::<F, S>(&mut sums, w, u, k, v, y, lse, &place, cut, with_lse);
    }
    if ends_with(&place, time, cut) {
        store::<S>(&mut sums, w, new_state, row, channels);
    }
}

/// The outputs, window by window. Leaves the state after the unit's last segment.
#[cube]
fn windows<F: Float, S: Float>(
    sums: &mut Sums<S>, // where the segment starts from
    w: S,
    u: S,
    k: &Tensor<F>,
    v: &Tensor<F>,
    y: &mut Tensor<F>,
    lse: &mut Tensor<S>,
    place: &Place,
    #[comptime] cut: Cut,
    #[comptime] with_lse: bool,
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let window = comptime!(cut.window()).runtime();
    // What comes before the window.
    let mut before = Sums::<S> { a: sums.a, b: sums.b, base: sums.base, age: S::new(0.0) };
    let mut shared = SharedMemory::<S>::new(comptime!(cut.shared(3)));
    let mut keys = Array::<S>::new(cut.tokens);
    let mut values = Array::<S>::new(cut.tokens);
    let mut next_keys = Array::<F>::new(cut.tokens);
    let mut next_values = Array::<F>::new(cut.tokens);
    let mut first = place.segment * cut.tokens;
    let mut at = (place.batch * time + first) * channels + place.channel;
    let tokens = tokens_of(place, first, time, cut);
    if tokens > 0 {
        read::<F>(k, &mut next_keys, at, tokens, channels, cut.tokens);
        read::<F>(v, &mut next_values, at, tokens, channels, cut.tokens);
    }
    for _ in 0..time.div_ceil(window) {
        let tokens = tokens_of(place, first, time, cut);
        #[unroll]
        for i in 0..cut.tokens {
            keys[i] = S::cast_from(next_keys[i]);
            values[i] = S::cast_from(next_values[i]);
        }
        first += window;
        let after = tokens_of(place, first, time, cut);
        if after > 0 {
            read::<F>(k, &mut next_keys, at + window * channels, after, channels, cut.tokens);
            read::<F>(v, &mut next_values, at + window * channels, after, channels, cut.tokens);
        }
        if comptime!(cut.segments > 1) {
            // Less than a whole segment comes last of all, and nothing starts from there.
            if tokens == cut.tokens {
                set::<S>(sums, &before);
                if place.segment == 0 {
                    take_in::<S>(sums, w, keys[0], values[0]);
                } else {
                    sums.a = values[0];
                    sums.b = S::new(1.0);
                    sums.base = keys[0];
                }
                #[unroll]
                for i in 1..cut.tokens {
                    take_in::<S>(sums, w, keys[i], values[i]);
                }
                settle::<S>(sums, w);
            }
            let half = scan::<S>(&mut shared, sums, w, place, cut);
            set::<S>(sums, &before);
            if place.segment > 0 {
                take_out::<S>(sums, &shared, half, place.segment - 1, place.lane, cut);
            }
            take_out::<S>(&mut before, &shared, half, comptime!(cut.segments - 1).runtime(), place.lane, cut);
            // The memory is used again in the next window.
            sync_cube();
        }
        if tokens == cut.tokens {
            #[unroll]
            for i in 0..cut.tokens {
                output::<F, S>(sums, w, u, keys[i], values[i], y, lse, at + i * channels, with_lse);
            }
        } else {
            #[unroll]
            for i in 0..cut.tokens {
                if i < tokens {
                    output::<F, S>(sums, w, u, keys[i], values[i], y, lse, at + i * channels, with_lse);
                }
            }
        }
        at += window * channels;
    }
}

/// Makes this state that one.
#[cube]
fn set<S: Float>(sums: &mut Sums<S>, to: &Sums<S>) {
    sums.a = to.a;
    sums.b = to.b;
    sums.base = to.base;
    sums.age = to.age;
}

/// The output of a token, which the state takes in.
#[cube]
fn output<F: Float, S: Float>(
    sums: &mut Sums<S>,
    w: S,
    u: S,
    k: S,
    v: S,
    y: &mut Tensor<F>,
    lse: &mut Tensor<S>,
    at: usize,
    #[comptime] with_lse: bool,
) {
    let weights = weigh::<S>(sums, w, u, k);
    y[at] = F::cast_from(quotient::<S>(weights.past * sums.a + weights.now * v, weights.denominator));
    if with_lse {
        let log = S::ln(weights.denominator);
        lse[at] = select(weights.lead > S::new(0.0), k + (u + log), sums.base + (sums.age * w + log));
    }
    take_in::<S>(sums, w, k, v);
}

/// `a / b` within two units of the last place where a GPU has a short way to that, for `b` of ordinary size, as a denominator
/// is: it is a sum of weights of which one is 1.
#[cube(fast_math = FastMath::AllowReciprocal | FastMath::ReducedPrecision | FastMath::UnsignedZero | FastMath::NotInf)]
fn quotient<S: Float>(a: S, b: S) -> S {
    a / b
}

/// Makes of the states that the segments bring, each with one number for its exponent, those after all segments up to each,
/// in as many rounds as `segments` has digits in base two. Returns which half of the shared memory they are in. Every unit
/// must take part.
#[cube]
fn scan<S: Float>(
    shared: &mut SharedMemory<S>, // [2, segments, 3, lanes]
    own: &mut Sums<S>,
    w: S,
    place: &Place,
    #[comptime] cut: Cut,
) -> usize {
    let mut half = 0usize.runtime();
    let mut step = 1usize.runtime();
    put_in::<S>(own, shared, half, place, cut);
    sync_cube();
    while step < cut.segments {
        if place.segment >= step {
            let at = place_in(half, place.segment - step, place.lane, cut);
            let decay = w * S::cast_from(step * cut.tokens);
            let p = shared[at + comptime!(2 * cut.lanes)];
            let next = max(own.base, S::floor(p + decay));
            let past = S::exp((p - next) + decay);
            let now = S::exp(own.base - next);
            own.a = past * shared[at] + now * own.a;
            own.b = past * shared[at + cut.lanes] + now * own.b;
            own.base = next;
        }
        half = 1 - half;
        put_in::<S>(own, shared, half, place, cut);
        sync_cube();
        step *= 2;
    }
    half
}

/// Where the shared memory has a segment's state.
#[cube]
fn place_in(half: usize, segment: usize, lane: usize, #[comptime] cut: Cut) -> usize {
    (half * cut.segments + segment) * comptime!(3 * cut.lanes) + lane
}

#[cube]
fn put_in<S: Float>(own: &Sums<S>, shared: &mut SharedMemory<S>, half: usize, place: &Place, #[comptime] cut: Cut) {
    let at = place_in(half, place.segment, place.lane, cut);
    shared[at] = own.a;
    shared[at + cut.lanes] = own.b;
    shared[at + comptime!(2 * cut.lanes)] = own.base;
}

#[cube]
fn take_out<S: Float>(
    sums: &mut Sums<S>,
    shared: &SharedMemory<S>,
    half: usize,
    segment: usize,
    lane: usize,
    #[comptime] cut: Cut,
) {
    let at = place_in(half, segment, lane, cut);
    sums.a = shared[at];
    sums.b = shared[at + cut.lanes];
    sums.base = shared[at + comptime!(2 * cut.lanes)];
}
