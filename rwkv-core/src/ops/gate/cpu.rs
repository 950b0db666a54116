//! The gate on the CPU: one pass forward, one pass backward.

use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::vectors::{load, sigmoid, store};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};
use pulp::Simd;

pub(in crate::ops) fn forward<B: CpuBackend>(r: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    if y.dtype() == DType::F64 {
        return super::portable::forward::<B>(r, y);
    }
    let (shape, dtype, device) = (y.shape(), y.dtype(), B::float_device(&y));
    let (r, y) = (read::<B>(r), read::<B>(y));
    let (r, y) = (r.as_ref(), y.as_ref());
    let mut out = Fresh::new(y.len());
    let tasks = out.parts(CHUNK).zip(r.chunks(CHUNK)).zip(y.chunks(CHUNK));
    run(Gate, y.len(), tasks, &());
    write::<B>(out.into_vec(), shape, dtype, &device)
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    r: FloatTensor<B>,
    y: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    if y.dtype() == DType::F64 {
        return super::portable::backward::<B>(r, y, grad);
    }
    let (shape, device) = (y.shape(), B::float_device(&y));
    let dtypes = [r.dtype(), y.dtype()];
    let [r, y, grad] = [r, y, grad].map(read::<B>);
    let (r, y, grad) = (r.as_ref(), y.as_ref(), grad.as_ref());
    let (mut to_r, mut to_y) = (Fresh::new(y.len()), Fresh::new(y.len()));
    let outputs = to_r.parts(CHUNK).zip(to_y.parts(CHUNK));
    let tasks = outputs.zip(r.chunks(CHUNK)).zip(y.chunks(CHUNK)).zip(grad.chunks(CHUNK));
    run(GateGradients, y.len(), tasks, &());
    [
        write::<B>(to_r.into_vec(), shape.clone(), dtypes[0], &device),
        write::<B>(to_y.into_vec(), shape, dtypes[1], &device),
    ]
}

/// The chunks of the result, `r` and `y`.
type GateTask<'a> = ((Part<'a>, &'a [f32]), &'a [f32]);

kernel!(Gate on simd = gate_part<'a>((), GateTask<'a>));
kernel!(GateGradients on simd = gate_gradients<'a>((), GradientTask<'a>));

#[inline(always)]
fn gate_part<S: Simd>(simd: S, (): &(), ((out, r), y): GateTask<'_>) {
    gate(simd, out.clear(), r, y);
}

/// `out = σ(r)·y`.
#[inline(always)]
pub(in crate::ops) fn gate<S: Simd>(simd: S, out: &mut [f32], r: &[f32], y: &[f32]) {
    let lanes = S::F32_LANES;
    for ((out, r), y) in out.chunks_mut(lanes).zip(r.chunks(lanes)).zip(y.chunks(lanes)) {
        let open = sigmoid(simd, load(simd, r));
        store(simd, out, simd.mul_f32s(open, load(simd, y)));
    }
}

/// The chunks of `∂r`, `∂y`, `r`, `y` and the gradient that arrives.
type GradientTask<'a> = ((((Part<'a>, Part<'a>), &'a [f32]), &'a [f32]), &'a [f32]);

#[inline(always)]
fn gate_gradients<S: Simd>(simd: S, (): &(), ((((to_r, to_y), r), y), grad): GradientTask<'_>) {
    let lanes = S::F32_LANES;
    let outputs = to_r.clear().chunks_mut(lanes).zip(to_y.clear().chunks_mut(lanes));
    let inputs = r.chunks(lanes).zip(y.chunks(lanes)).zip(grad.chunks(lanes));
    for ((to_r, to_y), ((r, y), grad)) in outputs.zip(inputs) {
        let (y, grad) = (load(simd, y), load(simd, grad));
        let open = sigmoid(simd, load(simd, r));
        let passed = simd.mul_f32s(grad, open);
        store(simd, to_y, passed);
        let shut = simd.sub_f32s(simd.splat_f32s(1.0), open);
        store(simd, to_r, simd.mul_f32s(simd.mul_f32s(passed, y), shut));
    }
}
