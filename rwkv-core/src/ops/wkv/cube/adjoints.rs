//! The adjoints of WKV's state, which the backward kernel carries through time from the last token to the first.
//!
//! Those of `a·eᵖ` and `b·eᵖ` are kept like a state, `(ga, gb)` at an exponent `base + age·w` (see `forward.rs`). The gradient
//! of the decay needs `(ha, hb)` at the same exponent: the same sums, each term times its age.

use super::cut::{Cut, Place};
use cubecl::prelude::*;

/// Adjoints of one channel.
#[derive(CubeType)]
pub(super) struct Adjoints<S: Float> {
    pub ga: S,
    pub gb: S,
    pub ha: S,
    pub hb: S,
    pub base: S,
    pub age: S,
}

/// The adjoints before one more token, whose output has this gradient.
#[cube]
pub(super) fn take_in<S: Float>(sums: &mut Adjoints<S>, w: S, y: S, lse: S, gy: S) {
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
pub(super) fn set<S: Float>(sums: &mut Adjoints<S>, to: &Adjoints<S>) {
    sums.ga = to.ga;
    sums.gb = to.gb;
    sums.ha = to.ha;
    sums.hb = to.hb;
    sums.base = to.base;
    sums.age = to.age;
}

/// The adjoints of a state of which only this is known.
#[cube]
pub(super) fn load<S: Float>(adjoint: &Tensor<S>, row: usize, channels: usize) -> Adjoints<S> {
    Adjoints::<S> {
        ga: adjoint[row],
        gb: adjoint[row + channels],
        ha: S::new(0.0),
        hb: S::new(0.0),
        base: adjoint[row + 2 * channels],
        age: S::new(0.0),
    }
}

/// Gives the adjoints one number for their exponent.
#[cube]
pub(super) fn settle<S: Float>(sums: &mut Adjoints<S>, w: S) {
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
pub(super) fn scan<S: Float>(
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
pub(super) fn take_out<S: Float>(
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
