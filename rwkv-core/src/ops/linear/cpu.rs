//! Projections on the CPU: products in tiles on all threads.

use super::portable;
use crate::ops::cpu::matmul::{Matrix, multiply};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&x, &weight) {
        return portable::forward::<B>(x, weight);
    }
    let device = B::float_device(&x);
    let ([count, inputs], [_, outputs]) = (x.shape().dims(), weight.shape().dims());
    let (x, weight) = (read::<B>(x), read::<B>(weight));
    let y = multiply(Matrix::new(x.as_ref(), inputs), Matrix::new(weight.as_ref(), outputs));
    write::<B>(y, [count, outputs], DType::F32, &device)
}

pub(in crate::ops) fn backward_x<B: CpuBackend>(weight: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&weight, &grad) {
        return portable::backward_x::<B>(weight, grad);
    }
    let device = B::float_device(&grad);
    let ([count, outputs], [inputs, _]) = (grad.shape().dims(), weight.shape().dims());
    let (weight, grad) = (read::<B>(weight), read::<B>(grad));
    let to_x = multiply(Matrix::new(grad.as_ref(), outputs), Matrix::new(weight.as_ref(), outputs).transposed());
    write::<B>(to_x, [count, inputs], DType::F32, &device)
}

pub(in crate::ops) fn backward_weight<B: CpuBackend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&x, &grad) {
        return portable::backward_weight::<B>(x, grad);
    }
    let device = B::float_device(&grad);
    let ([_, inputs], [_, outputs]) = (x.shape().dims(), grad.shape().dims());
    let (x, grad) = (read::<B>(x), read::<B>(grad));
    let to_weight = multiply(Matrix::new(x.as_ref(), inputs).transposed(), Matrix::new(grad.as_ref(), outputs));
    write::<B>(to_weight, [inputs, outputs], DType::F32, &device)
}

fn both_f32(a: &impl TensorMetadata, b: &impl TensorMetadata) -> bool {
    a.dtype() == DType::F32 && b.dtype() == DType::F32
}
