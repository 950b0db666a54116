//! Products of a row or two: the second factor passes by once, and is multiplied where it lies. Sums are chains over the
//! whole depth, less exact than those of blocks of it (`tile.rs`).

use super::{Matrix, Product};
use crate::ops::cpu::lanes::{LANES, sum_pairs};
use crate::ops::cpu::vectors::{load, store};
use pulp::Simd;

/// Rows of the first factor up to which copying the second one costs more than it brings (`BENCHMARKS.md`).
const FEW: usize = 2;

/// Vectors of sums that pass along the rows of the second factor together.
const VECTORS: usize = 8;

/// Whether the product is one of these.
#[inline(always)]
pub(super) fn are_few(a: &Matrix<'_>) -> bool {
    a.rows <= FEW && a.column_stride == 1
}

/// Writes `a·b` where its first element is at `row` and `column`.
///
/// # Safety
/// The tile lies inside of the matrix, and no other task writes any of its elements.
#[inline(always)]
pub(super) unsafe fn write<S: Simd>(
    simd: S,
    (out, row, column): (&Product<'_>, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    for start in (0..b.columns).step_by(VECTORS * S::F32_LANES) {
        let part = b.columns(start, (VECTORS * S::F32_LANES).min(b.columns - start));
        for i in 0..a.rows {
            let numbers = &a.numbers[i * a.row_stride..][..a.columns];
            let mut sums = [0.0; VECTORS * LANES];
            let sums = &mut sums[..part.columns];
            if part.column_stride == 1 {
                along_rows(simd, sums, numbers, part);
            } else {
                for (column, sum) in sums.iter_mut().enumerate() {
                    let numbers_of_b = &part.numbers[column * part.column_stride..][..part.rows];
                    *sum = sum_pairs(numbers, numbers_of_b, |a, b| a * b);
                }
            }
            // SAFETY: the elements lie inside of the matrix, and are this task's alone (the caller's contract).
            unsafe {
                let place = out.start.add((row + i) * out.columns + column + start);
                place.copy_from_nonoverlapping(sums.as_ptr(), sums.len());
            }
        }
    }
}

/// The sums of the rows of `b`, each times its number.
#[inline(always)]
fn along_rows<S: Simd>(simd: S, sums: &mut [f32], numbers: &[f32], b: Matrix<'_>) {
    let mut vectors = [simd.splat_f32s(0.0); VECTORS];
    for (k, number) in numbers.iter().enumerate() {
        let number = simd.splat_f32s(*number);
        let row = &b.numbers[k * b.row_stride..][..b.columns];
        if let Some(row) = S::as_simd_f32s(row).0.first_chunk::<VECTORS>() {
            for (sum, x) in vectors.iter_mut().zip(row) {
                *sum = simd.mul_add_e_f32s(number, *x, *sum);
            }
        } else {
            for (sum, x) in vectors.iter_mut().zip(row.chunks(S::F32_LANES)) {
                *sum = simd.mul_add_e_f32s(number, load(simd, x), *sum);
            }
        }
    }
    for (sums, vector) in sums.chunks_mut(S::F32_LANES).zip(vectors) {
        store(simd, sums, vector);
    }
}
