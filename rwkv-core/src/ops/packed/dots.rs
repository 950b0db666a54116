//! Inner products with the rows of a packed matrix, which stream by once.
//!
//! A row is read as words of 32 bits, each of which holds one `f32`, two numbers of 16 bits or four bytes. Of a vector of words the
//! first numbers are taken out together, then the second ones, and so on, with shifts and masks: `x` is put into that order once
//! for all rows.

use super::PackedMatrix;
use super::matrix::Numbers;
use super::word::{Bf16, Bytes, F16, F32, Word};
use crate::ops::cpu::matmul::has_unit;
use crate::ops::cpu::prefetch::prefetch;
use pulp::{Scalar, Simd};
use std::array::from_fn;

/// `out_i = W_{start+i}·x`.
#[inline(always)]
pub(in crate::ops) fn dots<S: Simd>(simd: S, out: &mut [f32], weight: &PackedMatrix, start: usize, x: &[f32]) {
    let order = if has_unit() { Order::Quarters } else { Order::OneByOne };
    dots_in(order, simd, out, weight, start, x);
}

/// In which order the rows stream by. Their sums are the same either way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// One row after the other is one stream, which the processor reads ahead of up to the page's end. On Zen 4 four neighbouring
    /// rows at once were a third slower (`BENCHMARKS.md`).
    OneByOne,
    /// Four rows at once that lie a quarter of all apart are four streams: nearer to memory's speed on an Intel processor with a
    /// matrix unit, and not measured elsewhere.
    Quarters,
}

#[inline(always)]
fn dots_in<S: Simd>(order: Order, simd: S, out: &mut [f32], weight: &PackedMatrix, start: usize, x: &[f32]) {
    let range = start * x.len()..(start + out.len()) * x.len();
    let done = match weight.numbers() {
        Numbers::F32(numbers) => whole_words::<S, F32, _, 1, 4>(order, simd, out, &numbers[range], x),
        Numbers::Bf16(bits) => whole_words::<S, Bf16, _, 2, 2>(order, simd, out, &bits[range], x),
        Numbers::F16(bits) => whole_words::<S, F16, _, 2, 2>(order, simd, out, &bits[range], x),
        Numbers::Int8 { quants, scales } => {
            let done = whole_words::<S, Bytes, _, 4, 1>(order, simd, out, &quants[range], x);
            if done {
                for (out, scale) in out.iter_mut().zip(&scales[start..]) {
                    *out *= scale;
                }
            }
            done
        }
    };
    if !done {
        let mut row = vec![0.0; x.len()];
        for (i, out) in out.iter_mut().enumerate() {
            weight.unpack_row(start + i, &mut row);
            whole_words::<S, F32, _, 1, 4>(order, simd, std::slice::from_mut(out), &row, x);
        }
    }
}

/// The inner products of consecutive rows; false where a row of these numbers is no whole number of words.
#[inline(always)]
fn whole_words<S: Simd, W: Word<P>, T: bytemuck::NoUninit, const P: usize, const G: usize>(
    order: Order,
    simd: S,
    out: &mut [f32],
    numbers: &[T],
    x: &[f32],
) -> bool {
    let (words, rest) = x.as_chunks::<P>();
    let (true, Ok(numbers)) = (rest.is_empty(), bytemuck::try_cast_slice::<T, u32>(numbers)) else {
        return false;
    };
    if P == 1 {
        rows::<S, W, P, G>(order, simd, out, numbers, [x; P]);
        return true;
    }
    let mut parts = vec![0.0; x.len()];
    for (part, parts) in parts.chunks_exact_mut(words.len().max(1)).enumerate() {
        let place = if cfg!(target_endian = "little") { part } else { P - 1 - part };
        for (x, word) in parts.iter_mut().zip(words) {
            *x = word[place];
        }
    }
    rows::<S, W, P, G>(order, simd, out, numbers, from_fn(|part| &parts[part * words.len()..][..words.len()]));
    true
}

/// Rows that go at once in [`Order::Quarters`].
const TOGETHER: usize = 4;

/// The inner products of consecutive rows.
#[inline(always)]
fn rows<S: Simd, W: Word<P>, const P: usize, const G: usize>(
    order: Order,
    simd: S,
    out: &mut [f32],
    words: &[u32],
    x: [&[f32]; P],
) {
    let width = x[0].len();
    let apart = if order == Order::Quarters { out.len() / TOGETHER } else { 0 };
    let first = if apart > 0 { ahead(P, TOGETHER) } else { 0 };
    for byte in (0..first).step_by(64) {
        for row in 0..TOGETHER {
            prefetch(words.as_ptr().wrapping_add(row * apart * width).wrapping_byte_add(byte)); // the loop asks for what follows
        }
    }
    for i in 0..apart {
        let at = [i, apart + i, 2 * apart + i, 3 * apart + i];
        // Written out: a closure need not be inlined, and what is not has no vector instructions.
        let [a, b, c, d] = at;
        let four = [
            &words[a * width..][..width],
            &words[b * width..][..width],
            &words[c * width..][..width],
            &words[d * width..][..width],
        ];
        let sums = dots_of::<S, W, P, G, TOGETHER>(simd, four, x);
        for (i, sum) in at.into_iter().zip(sums) {
            out[i] = sum;
        }
    }
    for (i, out) in out.iter_mut().enumerate().skip(TOGETHER * apart) {
        [*out] = dots_of::<S, W, P, G, 1>(simd, [&words[i * width..][..width]], x);
    }
}

/// What of a row fills vectors, `G` and then one at a time, and what fills none.
type Vectors<'a, V, T, const G: usize> = (&'a [[V; G]], &'a [V], &'a [T]);

/// The inner products of `R` rows, each in four vectors of sums so that their additions overlap.
#[inline(always)]
fn dots_of<S: Simd, W: Word<P>, const P: usize, const G: usize, const R: usize>(
    simd: S,
    words: [&[u32]; R],
    x: [&[f32]; P],
) -> [f32; R] {
    const { assert!(P * G == 4, "a group of words fills the four sums") }
    let mut rows: [Vectors<'_, S::u32s, u32, G>; R] = [(&[], &[], &[]); R];
    for (row, words) in rows.iter_mut().zip(words) {
        let (vectors, rest) = S::as_simd_u32s(words);
        let (groups, last) = vectors.as_chunks::<G>();
        *row = (groups, last, rest);
    }
    let (groups, last) = (rows[0].0.len(), rows[0].1.len());
    for (row_groups, row_last, _) in &mut rows {
        (*row_groups, *row_last) = (&row_groups[..groups], &row_last[..last]);
    }
    let mut xs: [Vectors<'_, S::f32s, f32, G>; P] = [(&[], &[], &[]); P];
    for (xs, x) in xs.iter_mut().zip(x) {
        let (vectors, rest) = S::as_simd_f32s(x);
        let (x_groups, x_last) = vectors.as_chunks::<G>();
        *xs = (&x_groups[..groups], &x_last[..last], rest);
    }
    let mut sums = [[simd.splat_f32s(0.0); 4]; R];
    for i in 0..groups {
        for j in 0..G {
            if ahead(P, R) > 0 && (i * G + j).is_multiple_of(vectors_of_a_line::<S>()) {
                for (row, ..) in &rows {
                    prefetch((&raw const row[i][j]).wrapping_byte_add(ahead(P, R)));
                }
            }
            for (part, (x, ..)) in xs.iter().enumerate() {
                for (sums, (row, ..)) in sums.iter_mut().zip(&rows) {
                    let sum = &mut sums[j * P + part];
                    *sum = simd.mul_add_e_f32s(W::numbers(simd, row[i][j], part), x[i][j], *sum);
                }
            }
        }
    }
    for i in 0..last {
        for (part, (_, x, _)) in xs.iter().enumerate() {
            for (sums, (_, row, _)) in sums.iter_mut().zip(&rows) {
                sums[part] = simd.mul_add_e_f32s(W::numbers(simd, row[i], part), x[i], sums[part]);
            }
        }
    }
    let mut totals = [0.0; R];
    for (total, ([a, b, c, d], (_, _, row))) in totals.iter_mut().zip(sums.into_iter().zip(&rows)) {
        for (part, (_, _, x)) in xs.iter().enumerate() {
            for (word, x) in row.iter().zip(*x) {
                *total += W::numbers(Scalar::new(), *word, part) * x;
            }
        }
        *total += simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)));
    }
    totals
}

/// Vectors in a line of memory of 64 bytes.
const fn vectors_of_a_line<S: Simd>() -> usize {
    if size_of::<S::u32s>() < 64 { 64 / size_of::<S::u32s>() } else { 1 }
}

/// Bytes ahead of which the loop asks for memory, where that was seen to help (`BENCHMARKS.md`): for small numbers, which cost
/// more instructions a byte, so that the processor by itself looks fewer lines ahead.
const fn ahead(parts: usize, rows: usize) -> usize {
    match (parts, rows) {
        (4, 1) => 2560,
        (_, 1) | (1, _) => 0,
        _ => 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::with_every_instruction_set;
    use crate::ops::packed::Packing;

    const PACKINGS: [Packing; 4] = [Packing::F32, Packing::Bf16, Packing::F16, Packing::Int8];

    /// The products of all rows from the second on, and the largest error beside f64, in units of `Σ |w·x|`.
    fn products<S: Simd>(order: Order, simd: S, weight: &PackedMatrix, x: &[f32]) -> (Vec<f32>, f64) {
        let mut out = vec![f32::NAN; weight.rows() - 1];
        dots_in(order, simd, &mut out, weight, 1, x);
        let unpacked = weight.unpack();
        let rows = unpacked.chunks_exact(x.len()).skip(1);
        let errors = out.iter().zip(rows).map(|(out, row)| {
            let terms = || row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            (f64::from(*out) - terms().sum::<f64>()).abs() / terms().map(f64::abs).sum::<f64>().max(1e-30)
        });
        let worst = errors.fold(0.0, |worst: f64, error| if error > worst || error.is_nan() { error } else { worst });
        (out, worst)
    }

    fn sums_are_those_of_f64<S: Simd>(name: &str, simd: S) {
        // Widths that are whole words or not, fill vectors or not, alone and in groups of four.
        for width in [1, 2, 3, 4, 7, 20, 36, 60, 64, 100, 101, 130, 256, 318, 772] {
            let x: Vec<f32> = (0..width).map(|i| ((i * 29 + 3) % 37) as f32 * 0.11 - 1.7).collect();
            for count in [2, 4, 5, 10, 19] {
                for packing in PACKINGS {
                    let weight = PackedMatrix::pack(packing, count, width, |row, out| {
                        out.iter_mut()
                            .enumerate()
                            .for_each(|(i, w)| *w = ((i * 31 + row * 17) % 53) as f32 * 0.07 - 1.9);
                    });
                    let (one_by_one, worst) = products(Order::OneByOne, simd, &weight, &x);
                    assert!(worst < 1e-6, "{name}, {packing:?}, {count} rows of {width}: {worst:e}");
                    let (quarters, _) = products(Order::Quarters, simd, &weight, &x);
                    assert_eq!(one_by_one, quarters, "{name}, {packing:?}, {count} rows of {width}");
                }
            }
        }
    }

    #[test]
    fn sums_are_those_of_f64_in_either_order() {
        with_every_instruction_set!(sums_are_those_of_f64);
    }
}
