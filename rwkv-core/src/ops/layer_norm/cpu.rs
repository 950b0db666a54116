//! Layer normalisation on the CPU: a row at a time, while it is in the cache.

use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::lanes::{sum, sum_pairs};
use crate::ops::cpu::over::{Over, Rewritten};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{ROWS, kernel, run, sum_rows};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x, weight, bias, epsilon);
    }
    let (shape, dtype, device) = (x.shape(), x.dtype(), B::float_device(&x));
    let [x, weight, bias] = [x, weight, bias].map(read::<B>);
    let (x, weight, bias) = (x.as_ref(), weight.as_ref(), bias.as_ref());
    let width = weight.len();
    let mut out = Fresh::new(x.len());
    let tasks = out.parts(ROWS * width).zip(x.chunks(ROWS * width));
    run(Normalise, x.len(), tasks, &(weight, bias, epsilon as f32));
    write::<B>(out.into_vec(), shape, dtype, &device)
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 3] {
    if x.dtype() == DType::F64 {
        return super::portable::backward::<B>(x, weight, grad, epsilon);
    }
    let (device, parameters) = (B::float_device(&x), weight.dtype());
    let ([x, weight], mut grad) = ([x, weight].map(read::<B>), Over::<B>::new(grad));
    let (x, weight) = (x.as_ref(), weight.as_ref());
    let width = weight.len();
    let count = x.len().div_ceil(ROWS * width);
    let (mut weights, mut biases) = (vec![0.0; count * width], vec![0.0; count * width]); // a row of each per task
    let outputs = grad.parts(ROWS * width).into_iter().zip(weights.chunks_mut(width)).zip(biases.chunks_mut(width));
    let tasks = outputs.zip(x.chunks(ROWS * width));
    run(Gradients, x.len(), tasks, &(weight, epsilon as f32));
    [
        grad.into_tensor(),
        write::<B>(sum_rows(&weights, width), [width], parameters, &device),
        write::<B>(sum_rows(&biases, width), [width], parameters, &device),
    ]
}

kernel!(Normalise = normalise_part<'a, 'b>((&'a [f32], &'a [f32], f32), (Part<'b>, &'b [f32])));
kernel!(Gradients = gradients<'a, 'b>((&'a [f32], f32), GradientTask<'b>));

/// A row's mean and `1/√(variance + ε)`, the variance from the centred row: it does not cancel.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x, |x| x) / width;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

#[inline(always)]
fn normalise_part(parameters: &(&[f32], &[f32], f32), (out, x): (Part<'_>, &[f32])) {
    normalise(parameters, (out.clear(), x));
}

#[inline(always)]
pub(in crate::ops) fn normalise(&(weight, bias, epsilon): &(&[f32], &[f32], f32), (out, x): (&mut [f32], &[f32])) {
    let width = weight.len();
    for (out, x) in out.chunks_mut(width).zip(x.chunks(width)) {
        let (mean, inverse) = moments(x, epsilon);
        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = (x - mean) * inverse * weight + bias;
        }
    }
}

/// The chunks of the gradient that arrives, which become those of `∂x`, the task's rows of `∂weight` and `∂bias`, and the
/// chunks of `x`.
type GradientTask<'a> = (((Rewritten<'a>, &'a mut [f32]), &'a mut [f32]), &'a [f32]);

#[inline(always)]
fn gradients(&(weight, epsilon): &(&[f32], f32), (((grad, to_weight), to_bias), x): GradientTask<'_>) {
    let width = weight.len();
    for (grad, x) in grad.take().chunks_mut(width).zip(x.chunks(width)) {
        let (mean, inverse) = moments(x, epsilon);
        let sums = to_weight.iter_mut().zip(to_bias.iter_mut());
        for (((to_weight, to_bias), x), (grad, weight)) in sums.zip(x).zip(grad.iter_mut().zip(weight)) {
            *to_weight += (x - mean) * inverse * *grad;
            *to_bias += *grad;
            *grad *= weight;
        }
        let mean_h = sum(grad, |h| h) / width as f32;
        let along = sum_pairs(grad, x, |h, x| h * (x - mean)) * inverse / width as f32;
        for (grad, x) in grad.iter_mut().zip(x) {
            *grad = (*grad - mean_h - (x - mean) * inverse * along) * inverse;
        }
    }
}
