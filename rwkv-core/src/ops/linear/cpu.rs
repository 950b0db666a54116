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
    product::<B>(x, weight, |x, weight| [x, weight])
}

pub(in crate::ops) fn backward_x<B: CpuBackend>(weight: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&weight, &grad) {
        return portable::backward_x::<B>(weight, grad);
    }
    product::<B>(weight, grad, |weight, grad| [grad, weight.transposed()])
}

pub(in crate::ops) fn backward_weight<B: CpuBackend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&x, &grad) {
        return portable::backward_weight::<B>(x, grad);
    }
    product::<B>(x, grad, |x, grad| [x.transposed(), grad])
}

fn both_f32(a: &impl TensorMetadata, b: &impl TensorMetadata) -> bool {
    a.dtype() == DType::F32 && b.dtype() == DType::F32
}

/// The product of the factors that `arrange` makes of two matrices.
fn product<B: CpuBackend>(
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    arrange: impl for<'a> FnOnce(Matrix<'a>, Matrix<'a>) -> [Matrix<'a>; 2],
) -> FloatTensor<B> {
    let device = B::float_device(&a);
    let [[_, width_of_a], [_, width_of_b]] = [a.shape().dims(), b.shape().dims()];
    let (a, b) = (read::<B>(a), read::<B>(b));
    let [left, right] = arrange(Matrix::new(a.as_ref(), width_of_a), Matrix::new(b.as_ref(), width_of_b));
    write::<B>(multiply(left, right), [left.height(), right.width()], DType::F32, &device)
}
