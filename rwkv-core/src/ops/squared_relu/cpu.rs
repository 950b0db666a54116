//! The squared ReLU on the CPU.

use crate::ops::cpu::over::{Over, Rewritten};
use crate::ops::cpu::tensors::{CpuBackend, read};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x);
    }
    let mut x = Over::<B>::new(x);
    let elements = x.len();
    run(Squares, elements, x.parts(CHUNK), &());
    x.into_tensor()
}

pub(in crate::ops) fn backward<B: CpuBackend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::backward::<B>(x, grad);
    }
    let (x, mut grad) = (read::<B>(x), Over::<B>::new(grad));
    let elements = grad.len();
    run(Slopes, elements, grad.parts(CHUNK).into_iter().zip(x.as_ref().chunks(CHUNK)), &());
    grad.into_tensor()
}

kernel!(Squares = squares<'a>((), Rewritten<'a>));
kernel!(Slopes = slopes<'a>((), (Rewritten<'a>, &'a [f32])));

#[inline(always)]
fn squares((): &(), x: Rewritten<'_>) {
    for x in x.take() {
        let positive = relu(*x);
        *x = positive * positive;
    }
}

/// The gradient that arrives becomes that of `x`.
#[inline(always)]
fn slopes((): &(), (grad, x): (Rewritten<'_>, &[f32])) {
    for (grad, &x) in grad.take().iter_mut().zip(x) {
        *grad *= 2.0 * relu(x);
    }
}

/// `max(x, 0)` that passes NaN on, which `f32::max` does not.
#[inline(always)]
pub(in crate::ops) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
