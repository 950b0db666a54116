//! Inner products with the rows of a packed matrix, which stream by once.

use super::PackedMatrix;
use super::matrix::{Numbers, from_bf16, from_f16};
use crate::ops::cpu::lanes::{LANES, Lanes, map, mul_add};
use crate::ops::cpu::prefetch::prefetch;
use pulp::Simd;

/// `out_i = W_{start+i}·x`.
#[inline(always)]
pub(in crate::ops) fn dots<S: Simd>(simd: S, out: &mut [f32], weight: &PackedMatrix, start: usize, x: &[f32]) {
    let width = x.len();
    let range = start * width..(start + out.len()) * width;
    match weight.numbers() {
        Numbers::F32(numbers) => {
            // A plain loop: an iterator's `for_each` is a function that need not be inlined, and what is not has no vector
            // instructions. One row after the other is one stream, which the processor reads ahead of; four rows at once were
            // a third slower.
            for (out, row) in out.iter_mut().zip(numbers[range].chunks_exact(width)) {
                let mut sums = Sums::new(simd);
                sums.add(simd, row, x);
                *out = sums.total(simd);
            }
        }
        Numbers::Bf16(bits) => dots_of_bf16(simd, out, &bits[range], x),
        Numbers::F16(bits) => dots_unpacking(simd, out, &bits[range], x, from_f16),
        Numbers::Int8 { quants, scales } => {
            dots_of_bytes::<S>(out, &quants[range], x);
            for (out, scale) in out.iter_mut().zip(&scales[start..]) {
                *out *= scale;
            }
        }
    }
}

/// The inner products of consecutive rows of `bf16` with `x`, two numbers of 32 bits at a time: the upper one is an `f32` once
/// the lower is masked out, the lower one once it is shifted up. `x` is split into what the lower and the upper ones take.
#[inline(always)]
fn dots_of_bf16<S: Simd>(simd: S, out: &mut [f32], rows: &[u16], x: &[f32]) {
    let (pairs, rest) = x.as_chunks::<2>();
    let (true, Ok(rows)) = (rest.is_empty(), bytemuck::try_cast_slice::<u16, u32>(rows)) else {
        return dots_unpacking(simd, out, rows, x, from_bf16);
    };
    let mut split = vec![0.0; x.len()];
    let (low, high) = split.split_at_mut(pairs.len());
    for ((low, high), pair) in low.iter_mut().zip(high.iter_mut()).zip(pairs) {
        [*low, *high] = if cfg!(target_endian = "little") { *pair } else { [pair[1], pair[0]] };
    }
    let ((low, low_rest), (high, high_rest)) = (S::as_simd_f32s(low), S::as_simd_f32s(high));
    let (low, high) = (low.as_chunks::<2>(), high.as_chunks::<2>());
    let (upper, shift) = (simd.splat_u32s(0xffff_0000), simd.splat_u32s(16));
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(pairs.len())) {
        let (row, row_rest) = S::as_simd_u32s(row);
        let (row, row_last) = row.as_chunks::<2>();
        let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
        for ((row, low), high) in row.iter().zip(low.0).zip(high.0) {
            let lower = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(row[0], shift));
            a = simd.mul_add_e_f32s(lower, low[0], a);
            b = simd.mul_add_e_f32s(simd.transmute_f32s_u32s(simd.and_u32s(row[0], upper)), high[0], b);
            let lower = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(row[1], shift));
            c = simd.mul_add_e_f32s(lower, low[1], c);
            d = simd.mul_add_e_f32s(simd.transmute_f32s_u32s(simd.and_u32s(row[1], upper)), high[1], d);
        }
        for ((row, low), high) in row_last.iter().zip(low.1).zip(high.1) {
            let lower = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(*row, shift));
            a = simd.mul_add_e_f32s(lower, *low, a);
            b = simd.mul_add_e_f32s(simd.transmute_f32s_u32s(simd.and_u32s(*row, upper)), *high, b);
        }
        let mut tail = 0.0;
        for ((row, low), high) in row_rest.iter().zip(low_rest).zip(high_rest) {
            tail += f32::from_bits(row << 16) * low + f32::from_bits(row & 0xffff_0000) * high;
        }
        *out = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))) + tail;
    }
}

/// The inner products of consecutive rows of bytes with `x`. Here the compiler finds the conversion of a vector of bytes by
/// itself, on AVX2 and AVX-512, and a way through the cache as below was a fifth slower.
#[inline(always)]
fn dots_of_bytes<S: Simd>(out: &mut [f32], rows: &[i8], x: &[f32]) {
    let (x_steps, x_rest) = x.as_chunks::<STEP>();
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len())) {
        let (row_steps, row_rest) = row.as_chunks::<STEP>();
        let [mut a, mut b, mut c, mut d] = [[0.0f32; LANES]; 4];
        for (row, x) in row_steps.iter().zip(x_steps) {
            prefetch(row.as_ptr().wrapping_add(AHEAD));
            a = products::<S>(row, x, 0, &a);
            b = products::<S>(row, x, LANES, &b);
            c = products::<S>(row, x, 2 * LANES, &c);
            d = products::<S>(row, x, 3 * LANES, &d);
        }
        let tail: f32 = row_rest.iter().zip(x_rest).map(|(w, x)| f32::from(*w) * x).sum();
        *out = map(|i| (a[i] + b[i]) + (c[i] + d[i])).iter().sum::<f32>() + tail;
    }
}

/// Bytes that one turn of their loop takes.
const STEP: usize = 4 * LANES;

/// Bytes ahead of which the loop over them asks for memory. A byte costs more instructions than a number of more bytes does,
/// so the processor by itself looks fewer lines ahead: on Zen 3 a sixth of the time went by waiting (`BENCHMARKS.md`), while
/// `bf16` and `f32` gained nothing.
const AHEAD: usize = 40 * STEP;

/// One vector of sums with one vector of products more.
#[inline(always)]
fn products<S: Simd>(row: &[i8; STEP], x: &[f32; STEP], from: usize, sum: &Lanes) -> Lanes {
    map(|i| mul_add::<S>(f32::from(row[from + i]), x[from + i], sum[i]))
}

/// Numbers that are unpacked at a time, into the first cache, by a loop that every compiler turns into vector instructions.
/// Unpacked inside the loop of the sums, `bf16` became single numbers on AVX2.
const UNPACKED: usize = 256;

/// The inner products of consecutive packed rows with `x`.
#[inline(always)]
fn dots_unpacking<S: Simd, T: Copy>(simd: S, out: &mut [f32], rows: &[T], x: &[f32], f: impl Fn(T) -> f32 + Copy) {
    let mut buffer = [0.0; UNPACKED];
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len())) {
        let mut sums = Sums::new(simd);
        for (row, x) in row.chunks(UNPACKED).zip(x.chunks(UNPACKED)) {
            for (number, &packed) in buffer.iter_mut().zip(row) {
                *number = f(packed);
            }
            sums.add(simd, &buffer[..x.len()], x);
        }
        *out = sums.total(simd);
    }
}

/// An inner product in four vectors of partial sums, so that their additions overlap, and the numbers that fill no vector.
struct Sums<S: Simd>([S::f32s; 4], f32);

impl<S: Simd> Sums<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Self([simd.splat_f32s(0.0); 4], 0.0)
    }

    /// Adds the products of as many numbers.
    #[inline(always)]
    fn add(&mut self, simd: S, row: &[f32], x: &[f32]) {
        let ((row, row_rest), (x, x_rest)) = (S::as_simd_f32s(row), S::as_simd_f32s(x));
        let ((row, row_last), (x, x_last)) = (row.as_chunks::<4>(), x.as_chunks::<4>());
        let Self([mut a, mut b, mut c, mut d], _) = *self;
        for (row, x) in row.iter().zip(x) {
            a = simd.mul_add_e_f32s(row[0], x[0], a);
            b = simd.mul_add_e_f32s(row[1], x[1], b);
            c = simd.mul_add_e_f32s(row[2], x[2], c);
            d = simd.mul_add_e_f32s(row[3], x[3], d);
        }
        for (row, x) in row_last.iter().zip(x_last) {
            a = simd.mul_add_e_f32s(*row, *x, a);
        }
        self.0 = [a, b, c, d];
        for (row, x) in row_rest.iter().zip(x_rest) {
            self.1 += row * x;
        }
    }

    #[inline(always)]
    fn total(self, simd: S) -> f32 {
        let Self([a, b, c, d], rest) = self;
        simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))) + rest
    }
}
