//! Projections on the CPU: products in tiles on all threads.

use super::{portable, width, with_width};
use crate::ops::cpu::matmul::{Matrix, multiply};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&x, &weight) {
        return portable::forward::<B>(x, weight);
    }
    let shape = with_width(x.shape(), weight.shape()[1]);
    product::<B>(x, weight, shape, |x, weight| [x, weight])
}

pub(in crate::ops) fn backward_x<B: CpuBackend>(weight: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&weight, &grad) {
        return portable::backward_x::<B>(weight, grad);
    }
    let shape = with_width(grad.shape(), weight.shape()[0]);
    product::<B>(weight, grad, shape, |weight, grad| [grad, weight.transposed()])
}

pub(in crate::ops) fn backward_weight<B: CpuBackend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    if !both_f32(&x, &grad) {
        return portable::backward_weight::<B>(x, grad);
    }
    let shape = Shape::new([&x, &grad].map(|factor| width(&factor.shape())));
    product::<B>(x, grad, shape, |x, grad| [x.transposed(), grad])
}

fn both_f32(a: &impl TensorMetadata, b: &impl TensorMetadata) -> bool {
    a.dtype() == DType::F32 && b.dtype() == DType::F32
}

/// The product of the factors that `arrange` makes of two matrices, whose rows may lie in several dimensions.
fn product<B: CpuBackend>(
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    shape: Shape,
    arrange: impl for<'a> FnOnce(Matrix<'a>, Matrix<'a>) -> [Matrix<'a>; 2],
) -> FloatTensor<B> {
    let device = B::float_device(&a);
    let [width_of_a, width_of_b] = [&a, &b].map(|factor| width(&factor.shape()));
    let (a, b) = (read::<B>(a), read::<B>(b));
    let [left, right] = arrange(Matrix::new(a.as_ref(), width_of_a), Matrix::new(b.as_ref(), width_of_b));
    write::<B>(multiply(left, right), shape, DType::F32, &device)
}
