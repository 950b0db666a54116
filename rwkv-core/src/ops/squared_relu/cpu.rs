//! The squared ReLU on the CPU.

use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x);
    }
    let (shape, dtype, device) = (x.shape(), x.dtype(), B::float_device(&x));
    let x = read::<B>(x);
    let x = x.as_ref();
    let mut out = Fresh::new(x.len());
    run(Squares, x.len(), out.parts(CHUNK).zip(x.chunks(CHUNK)), &());
    write::<B>(out.into_vec(), shape, dtype, &device)
}

pub(in crate::ops) fn backward<B: CpuBackend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::backward::<B>(x, grad);
    }
    let (shape, dtype, device) = (x.shape(), x.dtype(), B::float_device(&x));
    let (x, grad) = (read::<B>(x), read::<B>(grad));
    let (x, grad) = (x.as_ref(), grad.as_ref());
    let mut out = Fresh::new(x.len());
    let tasks = out.parts(CHUNK).zip(x.chunks(CHUNK)).zip(grad.chunks(CHUNK));
    run(Slopes, x.len(), tasks, &());
    write::<B>(out.into_vec(), shape, dtype, &device)
}

/// The chunks of the result and `x`.
type Task<'a> = (Part<'a>, &'a [f32]);

kernel!(Squares = squares<'a>((), Task<'a>));
kernel!(Slopes = slopes<'a>((), (Task<'a>, &'a [f32])));

#[inline(always)]
fn squares((): &(), (out, x): Task<'_>) {
    for (out, &x) in out.clear().iter_mut().zip(x) {
        let positive = relu(x);
        *out = positive * positive;
    }
}

#[inline(always)]
fn slopes((): &(), ((out, x), grad): (Task<'_>, &[f32])) {
    for ((out, &x), grad) in out.clear().iter_mut().zip(x).zip(grad) {
        *out = 2.0 * relu(x) * grad;
    }
}

/// `max(x, 0)` that passes NaN on, which `f32::max` does not.
#[inline(always)]
pub(in crate::ops) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
