//! Arrays of [`LANES`] floats, for simple loops.
//!
//! Everything is a plain loop over an array, which the compiler turns into vector instructions of whatever width the
//! processor has: the callers run inside [`super::run`], which picks the widest instruction set at run time. What is long, or
//! lives through a loop, is on [vectors](super::vectors) instead.

/// Channels that one vector holds: one AVX-512 register, two AVX2 registers or four NEON registers.
pub(in crate::ops) const LANES: usize = 16;

/// One vector of channels.
pub(in crate::ops) type Lanes = [f32; LANES];

/// The vector `f(i)` for every lane `i`.
#[inline(always)]
pub(in crate::ops) fn map(f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for (i, lane) in out.iter_mut().enumerate() {
        *lane = f(i);
    }
    out
}

/// Reads up to [`LANES`] floats; the lanes past the end of `source` are zero.
#[inline(always)]
pub(in crate::ops) fn load(source: &[f32]) -> Lanes {
    if let Some(full) = source.first_chunk::<LANES>() {
        return *full;
    }
    let mut out = [0.0; LANES];
    out[..source.len()].copy_from_slice(source);
    out
}

/// Writes as many lanes as `target` has room for.
#[inline(always)]
pub(in crate::ops) fn store(target: &mut [f32], lanes: &Lanes) {
    if let Some(full) = target.first_chunk_mut::<LANES>() {
        *full = *lanes;
        return;
    }
    let n = target.len();
    target.copy_from_slice(&lanes[..n]);
}

/// `Σ f(x)` in [`LANES`] partial sums, which is faster and more exact than one.
#[inline(always)]
pub(in crate::ops) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_pairs(x, x, |x, _| f(x))
}

/// `Σ f(x, y)` over two slices of one length, as [`sum`].
#[inline(always)]
pub(in crate::ops) fn sum_pairs(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let tail: f32 = x.remainder().iter().zip(y.remainder()).map(|(&x, &y)| f(x, y)).sum();
    for (x, y) in x.zip(y) {
        for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += f(x, y);
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_vectors_read_and_write_only_their_lanes() {
        let lanes = load(&[1.0, 2.0, 3.0]);
        assert_eq!(lanes[..4], [1.0, 2.0, 3.0, 0.0]);
        let mut target = [9.0; 2];
        store(&mut target, &lanes);
        assert_eq!(target, [1.0, 2.0]);
    }
}
