//! The unit's products beside their definition and those of the vectors.

use super::super::multiply_by_vectors;
use super::*;
use half::{bf16, f16};

/// Whether the unit is here; says so where it is not.
fn is_here() -> bool {
    let here = Amx::get().is_some();
    if !here {
        println!("SKIPPED: this processor has no AMX");
    }
    here
}

/// A matrix of this size in a slice, row by row or column by column.
fn lying<T: Copy>(numbers: &[T], rows: usize, columns: usize, turned: bool) -> Matrix<'_, T> {
    match turned {
        false => Matrix::new(numbers, columns),
        true => Matrix::new(numbers, rows).transposed(),
    }
}

fn at<T: Copy>(matrix: Matrix<'_, T>, row: usize, column: usize) -> T {
    matrix.numbers[row * matrix.row_stride + column * matrix.column_stride]
}

/// Products of small integers, which are exact.
fn check<A: Number + Into<f64>, B: Number + Into<f64>>(of_a: fn(f32) -> A, of_b: fn(f32) -> B) {
    for (m, n, depth) in [(32, 32, 512), (33, 65, 300), (64, 40, 1100), (700, 130, 65), (40, 1100, 33)] {
        let integer = |i: usize| ((i * 7) % 23) as f32 - 11.0;
        let a: Vec<A> = (0..m * depth).map(|i| of_a(integer(i))).collect();
        let b: Vec<B> = (0..depth * n).map(|i| of_b(integer(i + 5))).collect();
        for (turned_a, turned_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let (a, b) = (lying(&a, m, depth, turned_a), lying(&b, depth, n, turned_b));
            let out = multiply(a, b).expect("small integers are for the unit");
            for (i, x) in out.iter().enumerate() {
                let terms = (0..depth).map(|k| at(a, i / n, k).into() * at(b, k, i % n).into());
                assert_eq!(f64::from(*x), terms.sum::<f64>(), "{m}×{n}×{depth}, {turned_a}, {turned_b}, at {i}");
            }
        }
    }
}

#[test]
fn products_of_every_kind_of_number_are_those_of_the_definition() {
    if is_here() {
        check(|x| x, |x| x);
        check(|x| x, bf16::from_f32);
        check(|x| x, f16::from_f32);
        check(|x| x, |x| x as i8);
        check(|x| x, |x| if x == -11.0 { i8::MIN } else { x as i8 });
        check(bf16::from_f32, bf16::from_f32);
    }
}

/// Numbers of all signs and of sizes from 2⁻¹⁶ to 1, with all bits in use.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |i: u32| {
        let random = i.wrapping_mul(0x9e37_79b9).wrapping_add(seed).wrapping_mul(0x85eb_ca6b);
        let random = (random ^ random >> 15).wrapping_mul(0xc2b2_ae35);
        f32::from_bits((random & 0x807f_ffff) | (111 + (random >> 24 & 15)) << 23)
    };
    (0..count as u32).map(number).collect()
}

/// The largest error beside the sum of the sizes of what is added.
fn largest_error<B: Copy + Into<f64>>(out: &[f32], a: Matrix<'_>, b: Matrix<'_, B>) -> f64 {
    let errors = out.iter().enumerate().map(|(i, out)| {
        let term = |k| f64::from(at(a, i / b.columns, k)) * at(b, k, i % b.columns).into();
        let (sum, size) = (0..a.columns).map(term).fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
        (f64::from(*out) - sum).abs() / size
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn sums_are_as_exact_as_those_of_f32() {
    if !is_here() {
        return;
    }
    let (m, n) = (160, 140);
    for depth in [32, 256, 2048] {
        let (a, b) = (numbers(m * depth, 1), numbers(depth * n, 2));
        let mut errors = [0.0f64; 4];
        for (turned_a, turned_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let (a, b) = (lying(&a, m, depth, turned_a), lying(&b, depth, n, turned_b));
            let out = multiply(a, b).expect("moderate numbers are for the unit");
            let (bf16, f16) = (halves_error(a, b, bf16::from_f32), halves_error(a, b, f16::from_f32));
            let vectors = largest_error(&multiply_by_vectors(a, b), a, b);
            for (largest, error) in errors.iter_mut().zip([largest_error(&out, a, b), vectors, bf16, f16]) {
                *largest = largest.max(error);
            }
        }
        let [unit, vectors, bf16, f16] = errors;
        println!("sums of {depth}: largest error {unit:.1e} of the terms, by vectors {vectors:.1e}");
        println!("  with weights in bf16 {bf16:.1e}, in f16 {f16:.1e}");
        assert!(unit.max(bf16).max(f16) < 5e-7 && unit < 1.5 * vectors);
    }
}

/// The largest error with the second factor in fewer bits.
fn halves_error<B: Number + Into<f64>>(a: Matrix<'_>, b: Matrix<'_>, of: fn(f32) -> B) -> f64 {
    let halves: Vec<B> = b.numbers.iter().map(|x| of(*x)).collect();
    let b = Matrix {
        numbers: halves.as_slice(),
        rows: b.rows,
        columns: b.columns,
        row_stride: b.row_stride,
        column_stride: b.column_stride,
    };
    largest_error(&multiply(a, b).expect("moderate numbers are for the unit"), a, b)
}

#[test]
fn what_is_no_moderate_number_is_left_to_the_vectors() {
    if !is_here() {
        return;
    }
    let (m, n, depth) = (64, 70, 200);
    let (a, b) = (numbers(m * depth, 1), numbers(depth * n, 2));
    let refused =
        [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0xffff_ffff), f32::MAX, -(2.0f32.powi(62))];
    for (turned_a, turned_b) in [(false, false), (true, true)] {
        for special in refused {
            for place in [0, 100 * n + 69, depth * n - 1] {
                let mut broken = b.clone();
                broken[place] = special;
                let factors = (lying(&a, m, depth, turned_a), lying(&broken, depth, n, turned_b));
                assert!(multiply(factors.0, factors.1).is_none(), "{special} in b at {place}");
                let (out, want) =
                    (super::super::multiply(factors.0, factors.1), multiply_by_vectors(factors.0, factors.1));
                assert!(
                    out.iter().zip(&want).all(|(x, want)| x.to_bits() == want.to_bits()),
                    "{special} in b at {place}"
                );
            }
            let mut broken = a.clone();
            broken[m * depth - 1] = special;
            assert!(
                multiply(lying(&broken, m, depth, turned_a), lying(&b, depth, n, turned_b)).is_none(),
                "{special} in a"
            );
        }
        // The largest that the unit takes, in both factors.
        let (mut large_a, mut large_b) = (a.clone(), b.clone());
        let largest = f32::from_bits(0x5e7f_ffff);
        (large_a[77], large_b[4321]) = (largest, -largest);
        let factors = (lying(&large_a, m, depth, turned_a), lying(&large_b, depth, n, turned_b));
        let error = largest_error(&multiply(factors.0, factors.1).expect("2⁶² less a bit"), factors.0, factors.1);
        assert!(error < 5e-7, "{error}");
    }
    // Infinite by its parts, and NaN if the unit added them up.
    let (mut large_a, mut large_b) = (a.clone(), b.clone());
    large_a.fill(f32::from_bits(0x7f16_ffff));
    large_b.fill(1e20);
    let out = super::super::multiply(Matrix::new(&large_a, depth), Matrix::new(&large_b, n));
    assert!(out.iter().all(|x| *x == f32::INFINITY));
    for special in [bf16::INFINITY, bf16::NAN] {
        let mut halves: Vec<bf16> = b.iter().map(|x| bf16::from_f32(*x)).collect();
        halves[500] = special;
        assert!(multiply(Matrix::new(&a, depth), Matrix::new(&halves, n)).is_none());
    }
    let mut halves: Vec<f16> = b.iter().map(|x| f16::from_f32(*x)).collect();
    halves[500] = f16::NEG_INFINITY;
    assert!(multiply(Matrix::new(&a, depth), Matrix::new(&halves, n)).is_none());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    if !is_here() {
        return;
    }
    let (m, n, depth) = (300, 500, 300);
    let (a, b) = (numbers(m * depth, 3), numbers(depth * n, 4));
    let products = [1, 2, 5, 16].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| multiply(Matrix::new(&a, depth), Matrix::new(&b, n)))
    });
    assert!(products.iter().all(|product| product.is_some() && *product == products[0]));
}

#[test]
fn places_are_checked() {
    let Some(amx) = Amx::get().filter(|_| is_here()) else { return };
    let numbers = [1.0; 4];
    let (a, b) = (Matrix::new(&numbers, 2), Matrix::new(&numbers, 2));
    // SAFETY: it panics before the matrix is taken for whole.
    let panics = std::panic::catch_unwind(|| unsafe { Product::make(2, 2, |out| _ = write(amx, (out, 1, 0), a, b)) });
    assert!(panics.is_err());
}
