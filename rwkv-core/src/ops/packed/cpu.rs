//! Products with a packed matrix on the CPU.
//!
//! A few rows of `x` are multiplied as the weights stream by, each number unpacked in a register: memory's speed is the
//! limit. Many rows are multiplied a tile of the weights at a time, unpacked into the cache once for all of them.

use super::PackedMatrix;
use super::matrix::{Numbers, from_bf16, from_f16};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::lanes::{LANES, Lanes, map, mul_add};
use crate::ops::cpu::matmul::{Matrix, Product, multiply};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};
use pulp::Simd;

/// Up to so many rows of `x` the weights are unpacked again for each of them.
const FEW: usize = 4;

/// Rows of the weights that one task multiplies.
const TILE: usize = 64;

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>, weight: &PackedMatrix) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x, weight);
    }
    let (dtype, device) = (x.dtype(), B::float_device(&x));
    let [count, _] = x.shape().dims();
    let x = read::<B>(x);
    let x = x.as_ref();
    let outputs = weight.rows();
    let out = if count <= FEW { few(x, weight) } else { many(x, weight) };
    write::<B>(out, [count, outputs], dtype, &device)
}

/// The starts and lengths of the tiles of so many rows of weights.
fn tiles(outputs: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..outputs).step_by(TILE).map(move |start| (start, TILE.min(outputs - start)))
}

fn few(x: &[f32], weight: &PackedMatrix) -> Vec<f32> {
    let (outputs, width) = (weight.rows(), weight.columns());
    let mut out = vec![0.0; x.len() / width * outputs];
    let columns = Columns::new(&mut out, outputs);
    // What a tile costs is reading its weights, however few rows of x there are.
    run(Dots, outputs * width, tiles(outputs), &(x, weight, columns));
    out
}

fn many(x: &[f32], weight: &PackedMatrix) -> Vec<f32> {
    let (outputs, width) = (weight.rows(), weight.columns());
    let x = Matrix::new(x, width);
    if let Numbers::F32(numbers) = weight.numbers() {
        return multiply(x, Matrix::new(numbers, width).transposed());
    }
    // SAFETY: the tiles cover all columns once.
    unsafe {
        Product::make(x.height(), outputs, |out| {
            run(UnpackedTile, outputs * width * x.height(), tiles(outputs), &(x, weight, out));
        })
    }
}

kernel!(Dots on simd = tile_of_dots<'a>((&'a [f32], &'a PackedMatrix, Columns<'a>), (usize, usize)));
kernel!(UnpackedTile = unpacked_tile<'a>((Matrix<'a>, &'a PackedMatrix, &'a Product<'a>), (usize, usize)));

/// Columns `start .. start + len` of the product, a row of it after the other.
#[inline(always)]
fn tile_of_dots<S: Simd>(
    simd: S,
    (x, weight, out): &(&[f32], &PackedMatrix, Columns<'_>),
    (start, len): (usize, usize),
) {
    for (row, x) in x.chunks_exact(weight.columns()).enumerate() {
        // SAFETY: this task alone owns columns `start .. start + len`, and the slice ends with the call.
        dots(simd, unsafe { out.row(row, start, len) }, weight, start, x);
    }
}

/// Columns `start .. start + len` of the product, of weights that are unpacked into the cache.
#[inline(always)]
fn unpacked_tile(&(x, weight, out): &(Matrix<'_>, &PackedMatrix, &Product<'_>), (start, len): (usize, usize)) {
    let width = weight.columns();
    let mut rows = vec![0.0; len * width];
    for (row, out) in rows.chunks_exact_mut(width).enumerate() {
        weight.unpack_row(start + row, out);
    }
    // SAFETY: this task alone owns columns `start .. start + len`.
    unsafe { out.write(0, start, x, Matrix::new(&rows, width).transposed()) };
}

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
        Numbers::Bf16(bits) => dots_unpacking(simd, out, &bits[range], x, from_bf16),
        Numbers::F16(bits) => dots_unpacking(simd, out, &bits[range], x, from_f16),
        Numbers::Int8 { quants, scales } => {
            dots_of_bytes::<S>(out, &quants[range], x);
            for (out, scale) in out.iter_mut().zip(&scales[start..]) {
                *out *= scale;
            }
        }
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
