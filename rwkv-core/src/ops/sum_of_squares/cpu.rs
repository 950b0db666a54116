//! The sum of squares on the CPU: a sum for each task, and their sum.

use crate::ops::cpu::lanes::sum;
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn squares<B: CpuBackend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::sum::<B>(x);
    }
    let device = B::float_device(&x);
    let total = of_numbers(read::<B>(x).as_ref());
    write::<B>(vec![total], [1], DType::F32, &device)
}

/// Not generic: compiled once, not in every program.
fn of_numbers(x: &[f32]) -> f32 {
    let mut sums = vec![0.0; x.len().div_ceil(CHUNK)];
    run(Squares, x.len(), sums.iter_mut().zip(x.chunks(CHUNK)), &());
    // Of a large matrix there are thousands.
    sums.into_iter().map(f64::from).sum::<f64>() as f32
}

kernel!(Squares = squares_of_chunk<'a>((), (&'a mut f32, &'a [f32])));

#[inline(always)]
fn squares_of_chunk((): &(), (out, x): (&mut f32, &[f32])) {
    *out = sum(x, |x| x * x);
}
