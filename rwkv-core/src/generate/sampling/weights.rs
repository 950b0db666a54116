//! Softmax weights, in arithmetic that gives the same bits on every platform.
//!
//! The system's `exp` differs in its last bit from one C library to the next, and a bit can turn a draw. This one is
//! made of IEEE additions and multiplications alone, which Rust neither reorders nor fuses. It also has no branches or
//! calls, so the compiler vectorises it.

use crate::error::{Error, Result};

/// Values that a vector register may hold side by side; a fixed number makes a sum's order fixed.
const LANES: usize = 8;

/// Below this, `eˣ` leaves `f32`'s normal range: it counts as 0.
const SMALLEST_EXPONENT: f32 = -87.0;

/// `eˣ` for `x ≤ 0`, within 3e-7 of itself; 0 below −87.
///
/// `eˣ = 2ⁿ·eʳ` with `n = round(x/ln 2)`, `|r| ≤ ln 2/2` and the Taylor series to `r⁷` (the next term is below 6e-9).
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding it leaves no bits for fractions: the sum is rounded to a whole number, in the mantissa's low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³
    /// ln 2 in two parts, the first short enough that its product with `n` is exact.
    const LN_2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let inside = if x > SMALLEST_EXPONENT { x } else { SMALLEST_EXPONENT };
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = inside - n * LN_2.0 - n * LN_2.1;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let scale = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x > SMALLEST_EXPONENT { series * scale } else { 0.0 }
}

/// The largest logit and its lowest index.
///
/// # Errors
/// [`Error::Logits`] when there are none, one is NaN or +∞, or all are −∞.
pub(super) fn largest(logits: &[f32]) -> Result<(usize, f32)> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut finite_below = [true; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
            finite_below[lane] &= x < f32::INFINITY; // false for NaN, too
        }
    }
    let mut max = f32::NEG_INFINITY;
    for &x in lanes.iter().chain(rest) {
        max = if x > max { x } else { max };
    }
    let usable = finite_below.iter().all(|&good| good) && rest.iter().all(|&x| x < f32::INFINITY);
    let problem = match logits.iter().position(|&logit| logit == max) {
        Some(index) if usable && max > f32::NEG_INFINITY => return Ok((index, max)),
        _ if logits.is_empty() => "are none".to_owned(),
        _ => match logits.iter().position(|&x| x.is_nan() || x == f32::INFINITY) {
            Some(token) => format!("hold {} for token {token}", logits[token]),
            None => "leave no token to draw: all are banned or −∞".to_owned(),
        },
    };
    Err(Error::Logits { problem })
}

/// Fills `weights` with the exponentials of `ln(p/p_max)` and returns their sum.
pub(super) fn softmax_weights(log_ratios: impl Iterator<Item = f32>, weights: &mut Vec<f32>) -> f64 {
    weights.clear();
    weights.extend(log_ratios.map(exp));
    sum(weights)
}

/// The sum in `f64`, in a fixed order.
pub(super) fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x)).sum();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += f64::from(chunk[lane]);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_and_never_grows_the_wrong_way() {
        let mut last = 0.0;
        for i in 0..=870_000 {
            let x = -87.0 + i as f32 * 1e-4;
            let (got, want) = (exp(x), f64::from(x).exp());
            if x > SMALLEST_EXPONENT {
                assert!((f64::from(got) / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
            assert!(got >= last * (1.0 - 2e-7), "exp({x})");
            last = got;
        }
        assert_eq!((exp(0.0), exp(-87.5), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    /// These bits are the same on every platform; a change of them changes everybody's texts.
    #[test]
    fn the_exponential_is_the_same_everywhere() {
        let bits = [-0.1f32, -1.0, -3.3, -20.25, -80.0].map(|x| exp(x).to_bits());
        assert_eq!(bits, [0x3f67_a36d, 0x3ebc_5ab2, 0x3d17_12ce, 0x30dc_9ef1, 0x05bf_ecba]);
    }

    #[test]
    fn the_first_of_equal_logits_is_the_largest() {
        let mut logits = vec![-1.0f32; 21];
        (logits[17], logits[19]) = (2.0, 2.0);
        assert_eq!(largest(&logits).expect("numbers"), (17, 2.0));
    }

    #[test]
    fn logits_that_are_no_numbers_are_named() {
        for (index, bad) in [(3, f32::NAN), (18, f32::NAN), (0, f32::INFINITY)] {
            let mut logits = vec![1.0f32; 19];
            logits[index] = bad;
            let said = largest(&logits).expect_err("refused").to_string();
            assert!(said.contains(&format!("token {index}")), "{said}");
        }
        assert!(largest(&[f32::NEG_INFINITY; 9]).expect_err("refused").to_string().contains("banned"));
        assert!(largest(&[]).is_err());
    }
}
