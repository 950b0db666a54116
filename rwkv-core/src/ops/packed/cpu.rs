//! Products with a packed matrix on the CPU.
//!
//! A few rows of `x` are multiplied as the weights stream by, each number unpacked in a register (of rows that are whole words of 32 bits): memory's speed is the
//! limit. Many rows are multiplied by the processor's matrix unit where it has one, which takes weights of any packing, `bf16` and
//! bytes as they are; elsewhere a tile of the weights at a time, unpacked into the cache once for all of them. With
//! [`Packing::Bf16Products`] they are rounded to `bf16` first, and multiplied as they are where the processor can.

use super::dots::dots;
use super::matrix::{Numbers, from_bf16, to_bf16};
use super::{PackedMatrix, Packing};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::matmul::{Matrix, Product, has_unit, multiply, multiply_by_unit};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{CHUNK, ROWS, kernel, run};
use crate::ops::linear::with_width;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
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
    let shape = with_width(x.shape(), weight.rows());
    let x = read::<B>(x);
    let x = x.as_ref();
    let out = if x.len() <= FEW * weight.columns() { few(x, weight) } else { many(x, weight) };
    write::<B>(out, shape, dtype, &device)
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
    let width = weight.columns();
    if weight.packing() == Packing::Bf16Products {
        return many_rounded(x, weight);
    }
    let x = Matrix::new(x, width);
    let out = match weight.numbers() {
        Numbers::F32(numbers) => return multiply(x, Matrix::new(numbers, width).transposed()),
        Numbers::Bf16(bits) => multiply_by_unit(x, Matrix::<bf16>::new(bits.reinterpret_cast(), width).transposed()),
        Numbers::F16(bits) => multiply_by_unit(x, Matrix::<f16>::new(bits.reinterpret_cast(), width).transposed()),
        Numbers::Int8 { quants, scales } => {
            let mut out = multiply_by_unit(x, Matrix::<i8>::new(quants, width).transposed());
            if let Some(out) = &mut out {
                let rows = out.chunks_mut(ROWS * scales.len());
                run(Scaling, x.height() * scales.len(), rows, &scales.as_slice());
            }
            out
        }
    };
    out.unwrap_or_else(|| many_unpacked(x, weight))
}

/// The product of `x` rounded to `bf16`.
fn many_rounded(x: &[f32], weight: &PackedMatrix) -> Vec<f32> {
    let width = weight.columns();
    if let (true, Numbers::Bf16(bits)) = (has_unit(), weight.numbers()) {
        let mut rounded = vec![0; x.len()];
        run(Rounding, x.len(), rounded.chunks_mut(CHUNK).zip(x.chunks(CHUNK)), &());
        let weight = Matrix::<bf16>::new(bits.reinterpret_cast(), width).transposed();
        if let Some(out) = multiply_by_unit(Matrix::<bf16>::new(rounded.reinterpret_cast(), width), weight) {
            return out;
        }
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(out) = super::bf16::multiply(x, weight) {
        return out;
    }
    let rounded: Vec<f32> = x.iter().map(|x| from_bf16(to_bf16(*x))).collect();
    many_unpacked(Matrix::new(&rounded, width), weight)
}

fn many_unpacked(x: Matrix<'_>, weight: &PackedMatrix) -> Vec<f32> {
    let (outputs, width) = (weight.rows(), weight.columns());
    // SAFETY: the tiles cover all columns once.
    unsafe {
        Product::make(x.height(), outputs, |out| {
            run(UnpackedTile, outputs * width * x.height(), tiles(outputs), &(x, weight, out));
        })
    }
}

kernel!(Rounding = round<'a>((), (&'a mut [u16], &'a [f32])));
kernel!(Scaling = scale<'a>(&'a [f32], &'a mut [f32]));
kernel!(Dots on simd = tile_of_dots<'a>((&'a [f32], &'a PackedMatrix, Columns<'a>), (usize, usize)));
kernel!(UnpackedTile on simd = unpacked_tile<'a>((Matrix<'a>, &'a PackedMatrix, &'a Product<'a>), (usize, usize)));

#[inline(always)]
fn round((): &(), (rounded, x): (&mut [u16], &[f32])) {
    for (rounded, x) in rounded.iter_mut().zip(x) {
        *rounded = to_bf16(*x);
    }
}

/// Every row, number by number times its scale.
#[inline(always)]
fn scale(&scales: &&[f32], rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(scales.len()) {
        for (out, scale) in row.iter_mut().zip(scales) {
            *out *= scale;
        }
    }
}

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
