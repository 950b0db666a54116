//! Products with a packed matrix on the CPU.
//!
//! A few rows of `x` are multiplied as the weights stream by, each number unpacked in a register: memory's speed is the
//! limit. Many rows are multiplied a tile of the weights at a time, unpacked into the cache once for all of them.

use super::PackedMatrix;
use super::matrix::{Numbers, from_bf16, from_f16};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::lanes::LANES;
use crate::ops::cpu::matmul::times_transposed;
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

/// Up to so many rows of `x` the weights are unpacked again for each of them.
const FEW: usize = 4;

/// Rows of the weights that one task multiplies.
const TILE: usize = 64;

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>, weight: &PackedMatrix) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x, weight);
    }
    let (dtype, device) = (x.dtype(), B::float_device(&x));
    let [count, width] = x.shape().dims();
    let x = read::<B>(x);
    let x = x.as_ref();
    let outputs = weight.rows();
    let mut out = vec![0.0; count * outputs];
    {
        let out = Columns::new(&mut out, outputs);
        let tiles = (0..outputs).step_by(TILE).map(|start| (start, TILE.min(outputs - start)));
        // What a tile costs is reading its weights, however few rows of x there are.
        run(Tile, outputs * width, tiles, &(x, weight, out));
    }
    write::<B>(out, [count, outputs], dtype, &device)
}

kernel!(Tile = tile<'a>((&'a [f32], &'a PackedMatrix, Columns<'a>), (usize, usize)));

/// Columns `start .. start + len` of the product.
#[inline(always)]
fn tile((x, weight, out): &(&[f32], &PackedMatrix, Columns<'_>), (start, len): (usize, usize)) {
    let width = weight.columns();
    if x.len() <= FEW * width {
        for (row, x) in x.chunks_exact(width).enumerate() {
            // SAFETY: this task alone owns columns `start .. start + len`, and the slice ends with the call.
            dots(unsafe { out.row(row, start, len) }, weight, start, x);
        }
    } else {
        multiply(out, weight, start, len, x);
    }
}

/// `out_i = W_{start+i}·x`.
#[inline(always)]
fn dots(out: &mut [f32], weight: &PackedMatrix, start: usize, x: &[f32]) {
    let width = x.len();
    let range = start * width..(start + out.len()) * width;
    match weight.numbers() {
        Numbers::F32(numbers) => each_row(out, &numbers[range], x, |w| w),
        Numbers::Bf16(bits) => each_row(out, &bits[range], x, from_bf16),
        Numbers::F16(bits) => each_row(out, &bits[range], x, from_f16),
        Numbers::Int8 { quants, scales } => {
            each_row(out, &quants[range], x, f32::from);
            for (out, scale) in out.iter_mut().zip(&scales[start..]) {
                *out *= scale;
            }
        }
    }
}

/// The inner products of consecutive rows with `x`. A plain loop: an iterator's `for_each` is a function that need not be
/// inlined, and what is not has no vector instructions.
#[inline(always)]
fn each_row<T: Copy>(out: &mut [f32], rows: &[T], x: &[f32], f: impl Fn(T) -> f32 + Copy) {
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len())) {
        *out = dot(row, x, f);
    }
}

/// An inner product in four vectors of partial sums, so that their additions overlap.
#[inline(always)]
fn dot<T: Copy>(row: &[T], x: &[f32], f: impl Fn(T) -> f32) -> f32 {
    const STEP: usize = 4 * LANES;
    let mut sums = [0.0f32; STEP];
    let (row_steps, x_steps) = (row.chunks_exact(STEP), x.chunks_exact(STEP));
    let rest = row_steps.remainder().iter().zip(x_steps.remainder());
    let tail: f32 = rest.map(|(&w, x)| f(w) * x).sum();
    for (row, x) in row_steps.zip(x_steps) {
        for (sum, (&w, x)) in sums.iter_mut().zip(row.iter().zip(x)) {
            *sum += f(w) * x;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Columns `start .. start + len` of `x·Wᵀ`.
#[inline(always)]
fn multiply(out: &Columns<'_>, weight: &PackedMatrix, start: usize, len: usize, x: &[f32]) {
    let width = weight.columns();
    let unpacked; // where the numbers are no `f32` yet
    let tile = if let Numbers::F32(numbers) = weight.numbers() {
        &numbers[start * width..(start + len) * width]
    } else {
        let mut rows = vec![0.0; len * width];
        for (row, out) in rows.chunks_exact_mut(width).enumerate() {
            weight.unpack_row(start + row, out);
        }
        unpacked = rows;
        &unpacked
    };
    let mut product = vec![0.0; x.len() / width * len];
    times_transposed(x, tile, &mut product, width);
    for (row, product) in product.chunks_exact(len).enumerate() {
        // SAFETY: this task alone owns columns `start .. start + len`, and the slice ends with the statement.
        unsafe { out.row(row, start, len) }.copy_from_slice(product);
    }
}
