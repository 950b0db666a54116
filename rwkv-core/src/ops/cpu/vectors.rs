//! The processor's vectors, and the elementary functions that the kernels need on them.
//!
//! Sums that live through a loop stay in registers only as vectors: the compiler puts arrays of numbers into memory, where
//! AVX2 has no register of their size. Nothing here calls into libm. A processor without vectors that `pulp` knows (x86-64
//! before AVX2) takes a number at a time.

use pulp::Simd;

/// Reads up to a vector of floats; the lanes past the end of `source` are zero.
#[inline(always)]
pub(in crate::ops) fn load<S: Simd>(simd: S, source: &[f32]) -> S::f32s {
    match S::as_simd_f32s(source).0.first() {
        Some(whole) => *whole,
        None => simd.partial_load_f32s(source),
    }
}

/// Writes as many lanes as `target` has room for.
#[inline(always)]
pub(in crate::ops) fn store<S: Simd>(simd: S, target: &mut [f32], vector: S::f32s) {
    match S::as_mut_simd_f32s(target).0.first_mut() {
        Some(whole) => *whole = vector,
        None => simd.partial_store_f32s(target, vector),
    }
}

/// 1.5·2²³: adding it rounds a float of modest size to an integer, which then sits in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// The polynomial with these coefficients, the highest power's first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(*coefficient));
    }
    sum
}

/// `eˣ` within 2 units in the last place for `x ≤ 88`, 0 below −87.3, where the result would be
/// subnormal, and NaN for NaN, so that a broken key reaches the loss instead of looking like a small weight.
///
/// Cephes' `expf`: `x = n·ln 2 + r` with `|r| ≤ ½ ln 2` in two steps, a polynomial for `eʳ`, and `2ⁿ` by its exponent.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the digits of Cephes' constants, as published
pub(in crate::ops) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |x: f32| simd.splat_f32s(x);
    let least = splat(-87.3);
    let none = simd.less_than_f32s(x, least);
    let clamped = simd.select_f32s(none, least, x);
    let rounded = simd.mul_add_e_f32s(clamped, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(rounded, splat(ROUND));
    let r = simd.mul_add_e_f32s(n, splat(-0.693_359_375), clamped);
    let r = simd.mul_add_e_f32s(n, splat(2.121_944_40e-4), r);
    let coefficients =
        [1.987_569_15e-4, 1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_6e-2, 1.666_666_55e-1, 5.000_000_1e-1];
    let sum = polynomial(simd, r, coefficients);
    let mantissa = simd.add_f32s(simd.mul_add_e_f32s(sum, simd.mul_f32s(r, r), r), splat(1.0));
    let power = simd.sub_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(ROUND.to_bits() - 127));
    let scale = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(power, simd.splat_u32s(23)));
    simd.select_f32s(none, splat(0.0), simd.mul_f32s(mantissa, scale))
}

/// `ln x` within 2 units in the last place, for normal positive `x`.
///
/// Cephes' `logf`: `x = 2ᵉ·(1 + f)` with `1 + f` in `[√½, √2)`, and a polynomial in `f`.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the digits of Cephes' constants, as published
pub(in crate::ops) fn ln<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |x: f32| simd.splat_f32s(x);
    let with = |bits: S::u32s, mask: u32, set: u32| {
        simd.transmute_f32s_u32s(simd.or_u32s(simd.and_u32s(bits, simd.splat_u32s(mask)), simd.splat_u32s(set)))
    };
    let bits = simd.transmute_u32s_f32s(x);
    let half = with(bits, 0x007f_ffff, 0x3f00_0000); // in [½, 1)
    // In the mantissa of 2²³, the exponent's bits are an integer.
    let exponent = with(simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(23)), 0xff, 0x4b00_0000);
    let small = simd.less_than_f32s(half, splat(std::f32::consts::FRAC_1_SQRT_2));
    let bias = simd.select_f32s(small, splat(8_388_608.0 + 127.0), splat(8_388_608.0 + 126.0));
    let e = simd.sub_f32s(exponent, bias);
    let f = simd.sub_f32s(simd.select_f32s(small, simd.add_f32s(half, half), half), splat(1.0));
    let square = simd.mul_f32s(f, f);
    let coefficients = [
        7.037_683_63e-2,
        -1.151_461_03e-1,
        1.167_699_84e-1,
        -1.242_014_08e-1,
        1.424_932_28e-1,
        -1.666_805_77e-1,
        2.000_071_48e-1,
        -2.499_999_40e-1,
        3.333_333_12e-1,
    ];
    let sum = polynomial(simd, f, coefficients);
    let tail = simd.mul_f32s(simd.mul_f32s(f, sum), square);
    let tail = simd.mul_add_e_f32s(e, splat(-2.121_944_40e-4), tail);
    let tail = simd.mul_add_e_f32s(square, splat(-0.5), tail);
    simd.mul_add_e_f32s(e, splat(0.693_359_375), simd.add_f32s(f, tail))
}

/// `1/(1 + e^−x)`, through the exponential that cannot overflow.
#[inline(always)]
pub(in crate::ops) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let small = exp(simd, simd.neg_f32s(simd.abs_f32s(x)));
    let negative = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    simd.div_f32s(simd.select_f32s(negative, small, one), simd.add_f32s(one, small))
}

/// The weights of two terms whose exponents differ by `lead`, relative to the larger: `(e^−lead, 1)` where the second
/// leads, else `(1, e^lead)`.
#[inline(always)]
pub(in crate::ops) fn weights<S: Simd>(simd: S, lead: S::f32s) -> (S::f32s, S::f32s) {
    let one = simd.splat_f32s(1.0);
    let smaller = exp(simd, simd.neg_f32s(simd.abs_f32s(lead)));
    let second = simd.greater_than_f32s(lead, simd.splat_f32s(0.0));
    (simd.select_f32s(second, smaller, one), simd.select_f32s(second, one, smaller))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::with_every_instruction_set;

    /// A function of one vector.
    trait Function: Copy {
        fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
    }

    macro_rules! functions {
        ($($name:ident = $function:path),*) => {$(
            #[derive(Clone, Copy)]
            struct $name;

            impl Function for $name {
                #[inline(always)]
                fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
                    $function(simd, x)
                }
            }
        )*};
    }
    #[inline(always)]
    fn first_weight<S: Simd>(simd: S, lead: S::f32s) -> S::f32s {
        weights(simd, lead).0
    }

    #[inline(always)]
    fn second_weight<S: Simd>(simd: S, lead: S::f32s) -> S::f32s {
        weights(simd, lead).1
    }

    functions!(Exp = exp, Ln = ln, Sigmoid = sigmoid, FirstWeight = first_weight, SecondWeight = second_weight);

    struct All<'a, F>(F, &'a mut [f32]);

    impl<F: Function> pulp::WithSimd for All<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in self.1.chunks_mut(S::F32_LANES) {
                let result = self.0.of(simd, load(simd, x));
                store(simd, x, result);
            }
        }
    }

    /// The function of every number, by the widest vectors and by none.
    fn both(f: impl Function, x: &[f32]) -> [Vec<f32>; 2] {
        let (mut wide, mut scalar) = (x.to_vec(), x.to_vec());
        pulp::Arch::new().dispatch(All(f, &mut wide));
        pulp::Scalar.vectorize(All(f, &mut scalar));
        [wide, scalar]
    }

    /// The largest error of `f` against `exact` over `inputs`, relative to what `size` makes of the exact result.
    fn largest_error(
        inputs: impl Iterator<Item = f32>,
        f: impl Function,
        exact: fn(f64) -> f64,
        size: fn(f64) -> f64,
    ) -> f64 {
        let inputs: Vec<f32> = inputs.collect();
        let results = both(f, &inputs);
        let errors = results.iter().flat_map(|results| {
            inputs.iter().zip(results).map(|(&x, &got)| {
                assert!(got.is_finite(), "at {x}");
                let want = exact(f64::from(x));
                (f64::from(got) - want).abs() / size(want)
            })
        });
        errors.fold(0.0, f64::max)
    }

    fn relative(want: f64) -> f64 {
        want.abs().max(f64::from(f32::MIN_POSITIVE))
    }

    #[test]
    fn exp_is_accurate_down_to_the_smallest_normal() {
        let inputs = (0..400_000).map(|i| -87.2 + 175.0 * i as f32 / 400_000.0);
        let error = largest_error(inputs, Exp, f64::exp, relative);
        println!("exp: largest relative error {error:.2e}");
        assert!(error < 2.5e-7);
        assert_eq!(both(Exp, &[0.0; 19]), [[1.0; 19]; 2]);
    }

    #[test]
    fn exp_of_the_empty_sentinel_is_zero() {
        let inputs = [-88.0, -1000.0, -1e38, f32::NEG_INFINITY];
        assert_eq!(both(Exp, &inputs), [[0.0; 4]; 2]);
    }

    #[test]
    fn exp_passes_nan_on() {
        for results in both(Exp, &[f32::NAN, 0.0]) {
            assert!(results[0].is_nan() && results[1] == 1.0);
        }
    }

    #[test]
    fn ln_is_accurate_over_the_whole_range() {
        let inputs = (1..400_000).map(|i| 1e-3 + i as f32 * 0.01).chain([f32::MIN_POSITIVE, 1e-30, 1e30, f32::MAX]);
        let error = largest_error(inputs, Ln, f64::ln, |want| want.abs().max(1.0));
        println!("ln: largest error {error:.2e}");
        assert!(error < 2e-7);
        assert_eq!(both(Ln, &[1.0; 19]), [[0.0; 19]; 2]);
    }

    #[test]
    fn the_sigmoid_is_accurate_on_both_sides() {
        let inputs = (0..200_000).map(|i| -87.0 + 174.0 * i as f32 / 200_000.0);
        let error = largest_error(inputs, Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), relative);
        println!("sigmoid: largest relative error {error:.2e}");
        assert!(error < 4e-7);
    }

    #[test]
    fn infinities_and_nan_go_where_they_belong() {
        for results in both(Sigmoid, &[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0]) {
            assert_eq!([results[0], results[1], results[3]], [1.0, 0.0, 0.5]);
            assert!(results[2].is_nan());
        }
        for results in both(FirstWeight, &[0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY]) {
            let e = (-1.0f32).exp();
            assert!((results[1] - e).abs() < 1e-7, "{}", results[1]);
            assert_eq!([results[0], results[2], results[3], results[4]], [1.0, 1.0, 0.0, 1.0]);
        }
        for results in both(SecondWeight, &[0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]) {
            let e = (-1.0f32).exp();
            assert!((results[2] - e).abs() < 1e-7, "{}", results[2]);
            assert_eq!([results[0], results[1], results[3], results[4]], [1.0, 1.0, 1.0, 0.0]);
            assert!(results[5].is_nan());
        }
    }

    #[test]
    fn partial_vectors_read_and_write_only_their_lanes() {
        struct Copying<'a>(&'a [f32], &'a mut [f32]);
        impl pulp::WithSimd for Copying<'_> {
            type Output = Vec<f32>;

            fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
                let vector = load(simd, self.0);
                store(simd, self.1, vector);
                bytemuck::cast_slice(&[vector]).to_vec()
            }
        }
        fn on(_: &str, simd: impl Simd) {
            let source: Vec<f32> = (1..=20).map(|i| i as f32).collect();
            for n in 0..=17 {
                let mut target = [99.0; 20];
                let lanes = simd.vectorize(Copying(&source[..n], &mut target[..n]));
                let whole = n.min(lanes.len());
                assert_eq!(lanes[..whole], source[..whole]);
                assert!(lanes[whole..].iter().all(|x| *x == 0.0), "lanes past the end: {lanes:?}");
                assert_eq!(target[..whole], source[..whole]);
                assert!(target[whole..].iter().all(|x| *x == 99.0), "{n}: {target:?}");
            }
        }
        with_every_instruction_set!(on);
    }
}
