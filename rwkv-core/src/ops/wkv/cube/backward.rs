//! The backward kernel of WKV, written once for every CubeCL runtime. It goes through time from the last token to the first.

use super::adjoints::{Adjoints, load, scan, set, settle, take_in, take_out};
use super::cut::{Cut, Place, ends_with, place_of, read_back, tokens_of};
use cubecl::prelude::*;

/// What is known of a token.
#[derive(CubeType)]
struct Token<S: Float> {
    k: S,
    v: S,
    y: S,
    lse: S,
    gy: S,
}

/// What is known of a few tokens from the last one back, as it lies in memory or ready for arithmetic.
#[derive(CubeType)]
struct Tokens<F: Float, S: Float> {
    k: Array<F>,
    v: Array<F>,
    y: Array<F>,
    lse: Array<S>,
    gy: Array<F>,
}

#[cube]
impl<F: Float, S: Float> Tokens<F, S> {
    fn new(#[comptime] tokens: usize) -> Self {
        Tokens::<F, S> {
            k: Array::new(tokens),
            v: Array::new(tokens),
            y: Array::new(tokens),
            lse: Array::new(tokens),
            gy: Array::new(tokens),
        }
    }
}

/// Reads a token.
#[cube]
fn token<F: Float, S: Float>(
    k: &Tensor<F>,
    v: &Tensor<F>,
    y: &Tensor<F>,
    lse: &Tensor<S>,
    gy: &Tensor<F>,
    at: usize,
) -> Token<S> {
    Token::<S> {
        k: S::cast_from(k[at]),
        v: S::cast_from(v[at]),
        y: S::cast_from(y[at]),
        lse: lse[at],
        gy: S::cast_from(gy[at]),
    }
}

/// One of a few tokens.
#[cube]
fn pick<S: Float>(tokens: &Tokens<S, S>, i: usize) -> Token<S> {
    Token::<S> { k: tokens.k[i], v: tokens.v[i], y: tokens.y[i], lse: tokens.lse[i], gy: tokens.gy[i] }
}

/// Asks for neighbouring tokens, from the last one back.
#[cube]
fn read_all<F: Float, S: Float>(
    into: &mut Tokens<F, S>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    y: &Tensor<F>,
    lse: &Tensor<S>,
    gy: &Tensor<F>,
    last: usize,
    count: usize,
    channels: usize,
    #[comptime] tokens: usize,
) {
    read_back::<F>(k, &mut into.k, last, count, channels, tokens);
    read_back::<F>(v, &mut into.v, last, count, channels, tokens);
    read_back::<F>(y, &mut into.y, last, count, channels, tokens);
    read_back::<S>(lse, &mut into.lse, last, count, channels, tokens);
    read_back::<F>(gy, &mut into.gy, last, count, channels, tokens);
}

/// The gradients of the decay and the bonus.
#[derive(CubeType)]
struct OfParameters<S: Float> {
    gw: S,
    gu: S,
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
    let mut sums = load::<S>(adjoint, row, channels);
    let mut found = OfParameters::<S> { gw: S::new(0.0), gu: S::new(0.0) };
    if comptime!(cut.is_plain()) {
        let mut at = (place.batch + 1) * time * channels + place.channel;
        for _ in 0..select(place.exists, time, 0) {
            at -= channels;
            let token = token::<F, S>(k, v, y, lse, gy, at);
            pass::<F, S>(&mut sums, &mut found, w, u, &token, gk, gv, at);
        }
    } else {
        windows::<F, S>(&mut sums, &mut found, w, u, k, v, y, lse, gy, gk, gv, &place, cut);
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

/// The gradients, window by window. Leaves the adjoints before the unit's last segment.
#[cube]
fn windows<F: Float, S: Float>(
    sums: &mut Adjoints<S>, // where the segment starts from
    found: &mut OfParameters<S>,
    w: S,
    u: S,
    k: &Tensor<F>,
    v: &Tensor<F>,
    y: &Tensor<F>,
    lse: &Tensor<S>,
    gy: &Tensor<F>,
    gk: &mut Tensor<F>,
    gv: &mut Tensor<F>,
    place: &Place,
    #[comptime] cut: Cut,
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let window = comptime!(cut.window()).runtime();
    // What comes before the window, which is later in time.
    let mut before =
        Adjoints::<S> { ga: sums.ga, gb: sums.gb, ha: S::new(0.0), hb: S::new(0.0), base: sums.base, age: S::new(0.0) };
    let mut shared = SharedMemory::<S>::new(comptime!(cut.shared(5)));
    let mut next = Tokens::<F, S>::new(cut.tokens);
    let mut tokens = Tokens::<S, S>::new(cut.tokens);
    // Tokens after the segment.
    let mut after = place.segment * cut.tokens;
    let start = place.batch * time * channels + place.channel;
    let count = tokens_of(place, after, time, cut);
    if count > 0 {
        let last = start + (time - after - 1) * channels;
        read_all::<F, S>(&mut next, k, v, y, lse, gy, last, count, channels, cut.tokens);
    }
    for _ in 0..time.div_ceil(window) {
        let count = tokens_of(place, after, time, cut);
        let mut at = start + (time - min(after, time)) * channels;
        #[unroll]
        for i in 0..cut.tokens {
            tokens.k[i] = S::cast_from(next.k[i]);
            tokens.v[i] = S::cast_from(next.v[i]);
            tokens.y[i] = S::cast_from(next.y[i]);
            tokens.gy[i] = S::cast_from(next.gy[i]);
            tokens.lse[i] = next.lse[i];
        }
        after += window;
        let count_next = tokens_of(place, after, time, cut);
        if count_next > 0 {
            let last = start + (time - after - 1) * channels;
            read_all::<F, S>(&mut next, k, v, y, lse, gy, last, count_next, channels, cut.tokens);
        }
        if comptime!(cut.segments > 1) {
            // Less than a whole segment comes last of all, and nothing starts from there.
            if count == cut.tokens {
                set::<S>(sums, &before);
                if place.segment == 0 {
                    take_in::<S>(sums, w, tokens.y[0], tokens.lse[0], tokens.gy[0]);
                } else {
                    sums.ga = tokens.gy[0];
                    sums.gb = -tokens.gy[0] * tokens.y[0];
                    sums.ha = S::new(0.0);
                    sums.hb = S::new(0.0);
                    sums.base = -tokens.lse[0];
                }
                #[unroll]
                for i in 1..cut.tokens {
                    take_in::<S>(sums, w, tokens.y[i], tokens.lse[i], tokens.gy[i]);
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
        if count == cut.tokens {
            #[unroll]
            for i in 0..cut.tokens {
                at -= channels;
                pass::<F, S>(sums, found, w, u, &pick::<S>(&tokens, i), gk, gv, at);
            }
        } else {
            #[unroll]
            for i in 0..cut.tokens {
                if i < count {
                    at -= channels;
                    pass::<F, S>(sums, found, w, u, &pick::<S>(&tokens, i), gk, gv, at);
                }
            }
        }
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
