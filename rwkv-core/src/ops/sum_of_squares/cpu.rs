//! The sum of squares on the CPU: a sum for each task, and the sum of them all.

use crate::ops::cpu::lanes::sum;
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn squares<B: CpuBackend>(tensors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    if tensors.iter().any(|x| x.dtype() == DType::F64) {
        return super::portable::sum::<B>(tensors);
    }
    let device = B::float_device(&tensors[0]);
    let total: f64 = tensors.into_iter().map(|x| of_numbers(read::<B>(x).as_ref())).sum();
    write::<B>(vec![total as f32], [1], DType::F32, &device)
}

/// Not generic: compiled once, not in every program.
fn of_numbers(x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(CHUNK)];
    run(Squares, x.len(), sums.iter_mut().zip(x.chunks(CHUNK)), &());
    // Of a large matrix there are thousands.
    sums.into_iter().map(f64::from).sum()
}

kernel!(Squares = squares_of_chunk<'a>((), (&'a mut f32, &'a [f32])));

#[inline(always)]
fn squares_of_chunk((): &(), (out, x): (&mut f32, &[f32])) {
    *out = sum(x, |x| x * x);
}
