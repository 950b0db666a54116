//! Vectors of [`LANES`] floats and the elementary functions that the kernels need on them.
//!
//! Everything is a plain loop over an array, which the compiler turns into vector instructions of whatever width the
//! processor has: the callers run inside [`super::run`], which picks the widest instruction set at run time.
//! For the same reason nothing here calls into libm.

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

/// `a·b + c`: with one rounding where the instruction set `S` has that as one instruction. Elsewhere `f32::mul_add` would be
/// a call into a library.
#[inline(always)]
pub(in crate::ops) fn mul_add<S: pulp::Simd>(a: f32, b: f32, c: f32) -> f32 {
    let fused = S::F32_LANES >= 8 || (cfg!(target_arch = "aarch64") && !S::IS_SCALAR);
    if fused { a.mul_add(b, c) } else { a * b + c }
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

/// 1.5·2²³: adding it rounds a float of modest size to an integer, which then sits in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// `eˣ` within 2 units in the last place for `x ≤ 88`, 0 below −87.3, where the result would be
/// subnormal, and NaN for NaN, so that a broken key reaches the loss instead of looking like a small weight.
///
/// Cephes' `expf`: `x = n·ln 2 + r` with `|r| ≤ ½ ln 2` in two steps, a polynomial for `eʳ`, and `2ⁿ` by its exponent.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the digits of Cephes' constants, as published
pub(in crate::ops) fn exp(x: &Lanes) -> Lanes {
    map(|i| {
        let x = x[i];
        let clamped = if x < -87.3 { -87.3 } else { x };
        let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = clamped - n * 0.693_359_375 + n * 2.121_944_40e-4;
        let mut poly = 1.987_569_15e-4;
        poly = poly * r + 1.398_199_95e-3;
        poly = poly * r + 8.333_451_9e-3;
        poly = poly * r + 4.166_579_6e-2;
        poly = poly * r + 1.666_666_55e-1;
        poly = poly * r + 5.000_000_1e-1;
        let mantissa = poly * r * r + r + 1.0;
        let power = rounded.to_bits().wrapping_sub(ROUND.to_bits());
        let scale = f32::from_bits(power.wrapping_add(127) << 23);
        if x < -87.3 { 0.0 } else { mantissa * scale }
    })
}

/// `ln x` within 2 units in the last place, for normal positive `x`.
///
/// Cephes' `logf`: `x = 2ᵉ·(1 + f)` with `1 + f` in `[√½, √2)`, and a polynomial in `f`.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the digits of Cephes' constants, as published
pub(in crate::ops) fn ln(x: &Lanes) -> Lanes {
    map(|i| {
        let bits = x[i].to_bits();
        let half = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000); // in [½, 1)
        let small = half < std::f32::consts::FRAC_1_SQRT_2;
        let e = ((bits >> 23) as i32 - 126) as f32 - if small { 1.0 } else { 0.0 };
        let f = if small { half + half - 1.0 } else { half - 1.0 };
        let square = f * f;
        let mut poly = 7.037_683_63e-2;
        poly = poly * f - 1.151_461_03e-1;
        poly = poly * f + 1.167_699_84e-1;
        poly = poly * f - 1.242_014_08e-1;
        poly = poly * f + 1.424_932_28e-1;
        poly = poly * f - 1.666_805_77e-1;
        poly = poly * f + 2.000_071_48e-1;
        poly = poly * f - 2.499_999_40e-1;
        poly = poly * f + 3.333_333_12e-1;
        let tail = poly * f * square - e * 2.121_944_40e-4 - 0.5 * square;
        f + tail + e * 0.693_359_375
    })
}

/// The weights of two terms whose exponents differ by `lead`, relative to the larger: `(e^−lead, 1)` where the second
/// leads, else `(1, e^lead)`.
#[inline(always)]
pub(in crate::ops) fn weights(lead: &Lanes) -> (Lanes, Lanes) {
    let smaller = exp(&map(|i| -lead[i].abs()));
    let first = map(|i| if lead[i] > 0.0 { smaller[i] } else { 1.0 });
    let second = map(|i| if lead[i] > 0.0 { 1.0 } else { smaller[i] });
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error of `f` against `exact` over `inputs`.
    fn largest_error(inputs: impl Iterator<Item = f32>, f: fn(&Lanes) -> Lanes, exact: fn(f64) -> f64) -> f64 {
        inputs
            .map(|x| {
                let got = f64::from(f(&[x; LANES])[LANES - 1]);
                assert!(got.is_finite(), "at {x}");
                let want = exact(f64::from(x));
                (got - want).abs() / want.abs().max(f64::from(f32::MIN_POSITIVE))
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate_down_to_the_smallest_normal() {
        let inputs = (0..400_000).map(|i| -87.2 + 175.0 * i as f32 / 400_000.0);
        let error = largest_error(inputs, exp, f64::exp);
        println!("exp: largest relative error {error:.2e}");
        assert!(error < 2.5e-7);
        assert_eq!(exp(&[0.0; LANES]), [1.0; LANES]);
    }

    #[test]
    fn exp_of_the_empty_sentinel_is_zero() {
        for x in [-88.0, -1000.0, -1e38, f32::NEG_INFINITY] {
            assert_eq!(exp(&[x; LANES]), [0.0; LANES], "x = {x}");
        }
    }

    #[test]
    fn exp_passes_nan_on() {
        assert!(exp(&[f32::NAN; LANES])[0].is_nan());
    }

    #[test]
    fn ln_is_accurate_over_the_whole_range() {
        let inputs = (1..400_000).map(|i| 1e-3 + i as f32 * 0.01);
        let absolute = inputs
            .map(|x| (f64::from(ln(&[x; LANES])[0]) - f64::from(x).ln()).abs() / f64::from(x).ln().abs().max(1.0))
            .fold(0.0, f64::max);
        println!("ln: largest error {absolute:.2e}");
        assert!(absolute < 2e-7);
        assert_eq!(ln(&[1.0; LANES]), [0.0; LANES]);
    }

    #[test]
    fn partial_vectors_read_and_write_only_their_lanes() {
        let lanes = load(&[1.0, 2.0, 3.0]);
        assert_eq!(lanes[..4], [1.0, 2.0, 3.0, 0.0]);
        let mut target = [9.0; 2];
        store(&mut target, &lanes);
        assert_eq!(target, [1.0, 2.0]);
    }
}
