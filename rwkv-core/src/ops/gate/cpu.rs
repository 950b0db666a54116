//! The gate on the CPU: one pass forward, one pass backward.

use crate::ops::cpu::over::{Over, Rewritten};
use crate::ops::cpu::tensors::{CpuBackend, read};
use crate::ops::cpu::vectors::{load, sigmoid, store};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};
use pulp::Simd;

pub(in crate::ops) fn forward<B: CpuBackend>(r: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    if y.dtype() == DType::F64 {
        return super::portable::forward::<B>(r, y);
    }
    let (r, mut y) = (read::<B>(r), Over::<B>::new(y));
    let elements = y.len();
    run(Gate, elements, y.parts(CHUNK).into_iter().zip(r.as_ref().chunks(CHUNK)), &());
    y.into_tensor()
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    r: FloatTensor<B>,
    y: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    if y.dtype() == DType::F64 {
        return super::portable::backward::<B>(r, y, grad);
    }
    let [mut r, mut y] = [r, y].map(Over::<B>::new);
    let (elements, grad) = (y.len(), read::<B>(grad));
    let rewritten = r.parts(CHUNK).into_iter().zip(y.parts(CHUNK));
    run(GateGradients, elements, rewritten.zip(grad.as_ref().chunks(CHUNK)), &());
    [r, y].map(Over::into_tensor)
}

/// The chunks of `y`, which become those of the result, and of `r`.
type GateTask<'a> = (Rewritten<'a>, &'a [f32]);

kernel!(Gate on simd = gate_part<'a>((), GateTask<'a>));
kernel!(GateGradients on simd = gate_gradients<'a>((), GradientTask<'a>));

#[inline(always)]
fn gate_part<S: Simd>(simd: S, (): &(), (y, r): GateTask<'_>) {
    gate(simd, y.take(), r);
}

/// `y ← σ(r)·y`.
#[inline(always)]
pub(in crate::ops) fn gate<S: Simd>(simd: S, y: &mut [f32], r: &[f32]) {
    let lanes = S::F32_LANES;
    for (y, r) in y.chunks_mut(lanes).zip(r.chunks(lanes)) {
        let open = sigmoid(simd, load(simd, r));
        store(simd, y, simd.mul_f32s(open, load(simd, y)));
    }
}

/// The chunks of `r` and `y`, which become those of `∂r` and `∂y`, and of the gradient that arrives.
type GradientTask<'a> = ((Rewritten<'a>, Rewritten<'a>), &'a [f32]);

#[inline(always)]
fn gate_gradients<S: Simd>(simd: S, (): &(), ((r, y), grad): GradientTask<'_>) {
    let lanes = S::F32_LANES;
    let rewritten = r.take().chunks_mut(lanes).zip(y.take().chunks_mut(lanes));
    for ((r, y), grad) in rewritten.zip(grad.chunks(lanes)) {
        let open = sigmoid(simd, load(simd, r));
        let passed = simd.mul_f32s(load(simd, grad), open);
        let shut = simd.sub_f32s(simd.splat_f32s(1.0), open);
        store(simd, r, simd.mul_f32s(simd.mul_f32s(passed, load(simd, y)), shut));
        store(simd, y, passed);
    }
}
