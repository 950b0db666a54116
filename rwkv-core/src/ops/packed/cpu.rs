//! Products with a packed matrix on the CPU.
//!
//! A few rows of `x` are multiplied as the weights stream by, each number unpacked in a register: memory's speed is the
//! limit. Many rows are multiplied a tile of the weights at a time, unpacked into the cache once for all of them. With
//! [`Packing::Bf16Products`] they are rounded to `bf16` first, and multiplied as they are where the processor can.

use super::dots::dots;
use super::matrix::{Numbers, from_bf16, to_bf16};
use super::{PackedMatrix, Packing};
use crate::ops::cpu::columns::Columns;
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
    if weight.packing() != Packing::Bf16Products {
        return many_in_f32(x, weight);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(out) = super::bf16::multiply(x, weight) {
        return out;
    }
    let rounded: Vec<f32> = x.iter().map(|x| from_bf16(to_bf16(*x))).collect();
    many_in_f32(&rounded, weight)
}

fn many_in_f32(x: &[f32], weight: &PackedMatrix) -> Vec<f32> {
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
kernel!(UnpackedTile on simd = unpacked_tile<'a>((Matrix<'a>, &'a PackedMatrix, &'a Product<'a>), (usize, usize)));

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
fn unpacked_tile<S: Simd>(
    simd: S,
    &(x, weight, out): &(Matrix<'_>, &PackedMatrix, &Product<'_>),
    (start, len): (usize, usize),
) {
    let width = weight.columns();
    let mut rows = vec![0.0; len * width];
    for (row, out) in rows.chunks_exact_mut(width).enumerate() {
        weight.unpack_row(start + row, out);
    }
    // SAFETY: this task alone owns columns `start .. start + len`.
    unsafe { out.write(simd, 0, start, x, Matrix::new(&rows, width).transposed()) };
}
