//! The backward kernel of WKV, written once for every CubeCL runtime. It goes through time from the last token to the first.
//!
//! The adjoints of `a·eᵖ` and `b·eᵖ` are kept like a state, `(ga, gb)` at an exponent `base + age·w` (see `forward.rs`). The
//! gradient of the decay needs `(ha, hb)` at the same exponent: the same sums, each term times its age.

use super::cut::{Cut, Place, ends_with, place_of, read, tokens_of};
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

/// What is known of a token.
#[derive(CubeType)]
struct Token<S: Float> {
    k: S,
    v: S,
    y: S,
    lse: S,
    gy: S,
}

/// The gradients of the decay and the bonus.
#[derive(CubeType)]
struct OfParameters<S: Float> {
    gw: S,
    gu: S,
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

/// Makes these adjoints those.
#[cube]
fn set<S: Float>(sums: &mut Adjoints<S>, to: &Adjoints<S>) {
    sums.ga = to.ga;
    sums.gb = to.gb;
    sums.ha = to.ha;
    sums.hb = to.hb;
    sums.base = to.base;
    sums.age = to.age;
}

/// The adjoints of a state of which only this is known.
#[cube]
fn load<S: Float>(adjoint: &Tensor<S>, row: usize, channels: usize) -> Adjoints<S> {
    Adjoints::<S> {
        ga: adjoint[row],
        gb: adjoint[row + channels],
        ha: S::new(0.0),
        hb: S::new(0.0),
        base: adjoint[row + 2 * channels],
        age: S::new(0.0),
    }
}

/// The gradients.
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
    adjoint: &Tensor<S>,     // [B, 3, C]
    gk: &mut Tensor<F>,      // [B, T, C]
    gv: &mut Tensor<F>,      // [B, T, C]
    g_state: &mut Tensor<S>, // [B, 3, C]
    g_decay: &mut Tensor<S>, // [B·segments, C]
    g_bonus: &mut Tensor<S>, // [B·segments, C]
    #[comptime] cut: Cut,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let place = place_of(state.shape(0) * channels, channels, cut);
    let w = w[place.channel];
    let u = u[place.channel];
    let row = place.batch * 3 * channels + place.channel;
    // Where the segment starts from, and what comes after the window in time.
    let mut sums = load::<S>(adjoint, row, channels);
    let mut before = load::<S>(adjoint, row, channels);
    let mut shared = SharedMemory::<S>::new(comptime!(cut.shared(5)));
    let mut found = OfParameters::<S> { gw: S::new(0.0), gu: S::new(0.0) };

    let mut next_k = Array::<F>::new(cut.tokens);
    let mut next_v = Array::<F>::new(cut.tokens);
    let mut next_y = Array::<F>::new(cut.tokens);
    let mut next_gy = Array::<F>::new(cut.tokens);
    let mut next_lse = Array::<S>::new(cut.tokens);
    let mut keys = Array::<S>::new(cut.tokens);
    let mut values = Array::<S>::new(cut.tokens);
    let mut outputs = Array::<S>::new(cut.tokens);
    let mut gradients = Array::<S>::new(cut.tokens);
    let mut denominators = Array::<S>::new(cut.tokens);
    let window = comptime!(cut.window()).runtime();
    // Tokens after the segment; one after its last token is the `end`-th of all.
    let mut after = place.segment * cut.tokens;
    let start = place.batch * time * channels + place.channel;
    if tokens_of(&place, after, time, cut) == cut.tokens {
        let first = start + (time - after - cut.tokens) * channels;
        read::<F>(k, &mut next_k, first, channels, cut.tokens);
        read::<F>(v, &mut next_v, first, channels, cut.tokens);
        read::<F>(y, &mut next_y, first, channels, cut.tokens);
        read::<F>(gy, &mut next_gy, first, channels, cut.tokens);
        read::<S>(lse, &mut next_lse, first, channels, cut.tokens);
    }
    for _ in 0..time.div_ceil(window) {
        let tokens = tokens_of(&place, after, time, cut);
        let mut at = start + (time - min(after, time)) * channels;
        #[unroll]
        for i in 0..cut.tokens {
            keys[i] = S::cast_from(next_k[i]);
            values[i] = S::cast_from(next_v[i]);
            outputs[i] = S::cast_from(next_y[i]);
            gradients[i] = S::cast_from(next_gy[i]);
            denominators[i] = next_lse[i];
        }
        after += window;
        if tokens_of(&place, after, time, cut) == cut.tokens {
            let first = start + (time - after - cut.tokens) * channels;
            read::<F>(k, &mut next_k, first, channels, cut.tokens);
            read::<F>(v, &mut next_v, first, channels, cut.tokens);
            read::<F>(y, &mut next_y, first, channels, cut.tokens);
            read::<F>(gy, &mut next_gy, first, channels, cut.tokens);
            read::<S>(lse, &mut next_lse, first, channels, cut.tokens);
        }
        if comptime!(cut.segments > 1) {
            // Less than a whole segment comes last of all, and nothing starts from there.
            if tokens == cut.tokens {
                set::<S>(&mut sums, &before);
                if place.segment > 0 {
                    sums.ga = S::new(0.0);
                    sums.gb = S::new(0.0);
                    sums.ha = S::new(0.0);
                    sums.hb = S::new(0.0);
                    sums.base = -denominators[comptime!(cut.tokens - 1)];
                }
                #[unroll]
                for i in 0..cut.tokens {
                    let i = comptime!(cut.tokens - 1) - i;
                    take_in::<S>(&mut sums, w, outputs[i], denominators[i], gradients[i]);
                }
                settle::<S>(&mut sums, w);
            }
            let half = scan::<S>(&mut shared, &mut sums, w, &place, cut);
            set::<S>(&mut sums, &before);
            if place.segment > 0 {
                take_out::<S>(&mut sums, &shared, half, place.segment - 1, place.lane, cut);
            }
            take_out::<S>(&mut before, &shared, half, comptime!(cut.segments - 1).runtime(), place.lane, cut);
            // The memory is used again in the next window.
            sync_cube();
        }
        if tokens == cut.tokens {
            #[unroll]
            for i in 0..cut.tokens {
                let i = comptime!(cut.tokens - 1) - i;
                at -= channels;
                let token =
                    Token::<S> { k: keys[i], v: values[i], y: outputs[i], lse: denominators[i], gy: gradients[i] };
                pass::<F, S>(&mut sums, &mut found, w, u, &token, gk, gv, at);
            }
        } else {
            for _ in 0..tokens {
                at -= channels;
                let token = Token::<S> {
                    k: S::cast_from(k[at]),
                    v: S::cast_from(v[at]),
                    y: S::cast_from(y[at]),
                    lse: lse[at],
                    gy: S::cast_from(gy[at]),
                };
                pass::<F, S>(&mut sums, &mut found, w, u, &token, gk, gv, at);
            }
        }
    }
    if ends_with(&place, time, cut) {
        let a = state[row];
        let b = state[row + channels];
        let scale = S::exp((sums.base + state[row + 2 * channels]) + sums.age * w);
        let to_a = scale * sums.ga;
        let to_b = scale * sums.gb;
        g_state[row] = to_a;
        g_state[row + channels] = to_b;
        g_state[row + 2 * channels] = a * to_a + b * to_b;
        found.gw += scale * (a * sums.ha + b * sums.hb);
    }
    if place.exists {
        let row = (place.batch * cut.segments + place.segment) * channels + place.channel;
        g_decay[row] = found.gw;
        g_bonus[row] = found.gu;
    }
}

/// The gradients of a token, which the adjoints take in.
#[cube]
fn pass<F: Float, S: Float>(
    sums: &mut Adjoints<S>,
    found: &mut OfParameters<S>,
    w: S,
    u: S,
    token: &Token<S>,
    gk: &mut Tensor<F>,
    gv: &mut Tensor<F>,
    at: usize,
) {
    let direct = token.gy * S::exp((token.k - token.lse) + u);
    let direct_k = direct * (token.v - token.y);
    let carried = S::exp((token.k + sums.base) + sums.age * w);
    gk[at] = F::cast_from(direct_k + carried * (sums.ga * token.v + sums.gb));
    gv[at] = F::cast_from(direct + carried * sums.ga);
    found.gu += direct_k;
    found.gw += carried * (sums.ha * token.v + sums.hb);
    take_in::<S>(sums, w, token.y, token.lse, token.gy);
}

/// Gives the adjoints one number for their exponent.
#[cube]
fn settle<S: Float>(sums: &mut Adjoints<S>, w: S) {
    let m = S::floor(sums.base + sums.age * w);
    let scale = S::exp((sums.base - m) + sums.age * w);
    sums.ga *= scale;
    sums.gb *= scale;
    sums.ha *= scale;
    sums.hb *= scale;
    sums.base = m;
    sums.age = S::new(0.0);
}

/// Makes of the adjoints that the segments bring, each with one number for its exponent, those of all segments up to each, in
/// as many rounds as `segments` has digits in base two. Returns which half of the shared memory they are in. Every unit must
/// take part.
#[cube]
fn scan<S: Float>(
    shared: &mut SharedMemory<S>, // [2, segments, 5, lanes]
    own: &mut Adjoints<S>,
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
            let length = S::cast_from(step * cut.tokens);
            let decay = w * length;
            let m = shared[at + comptime!(4 * cut.lanes)];
            let next = max(own.base, S::floor(m + decay));
            let old = S::exp((m - next) + decay);
            let new = S::exp(own.base - next);
            let ga = shared[at];
            let gb = shared[at + cut.lanes];
            own.ha = old * (shared[at + comptime!(2 * cut.lanes)] + length * ga) + new * own.ha;
            own.hb = old * (shared[at + comptime!(3 * cut.lanes)] + length * gb) + new * own.hb;
            own.ga = old * ga + new * own.ga;
            own.gb = old * gb + new * own.gb;
            own.base = next;
        }
        half = 1 - half;
        put_in::<S>(own, shared, half, place, cut);
        sync_cube();
        step *= 2;
    }
    half
}

/// Where the shared memory has a segment's adjoints.
#[cube]
fn place_in(half: usize, segment: usize, lane: usize, #[comptime] cut: Cut) -> usize {
    (half * cut.segments + segment) * comptime!(5 * cut.lanes) + lane
}

#[cube]
fn put_in<S: Float>(own: &Adjoints<S>, shared: &mut SharedMemory<S>, half: usize, place: &Place, #[comptime] cut: Cut) {
    let at = place_in(half, place.segment, place.lane, cut);
    shared[at] = own.ga;
    shared[at + cut.lanes] = own.gb;
    shared[at + comptime!(2 * cut.lanes)] = own.ha;
    shared[at + comptime!(3 * cut.lanes)] = own.hb;
    shared[at + comptime!(4 * cut.lanes)] = own.base;
}

/// The adjoints of a segment, with one number for their exponent.
#[cube]
fn take_out<S: Float>(
    sums: &mut Adjoints<S>,
    shared: &SharedMemory<S>,
    half: usize,
    segment: usize,
    lane: usize,
    #[comptime] cut: Cut,
) {
    let at = place_in(half, segment, lane, cut);
    sums.ga = shared[at];
    sums.gb = shared[at + cut.lanes];
    sums.ha = shared[at + comptime!(2 * cut.lanes)];
    sums.hb = shared[at + comptime!(3 * cut.lanes)];
    sums.base = shared[at + comptime!(4 * cut.lanes)];
}
