//! Adam's update on CubeCL backends: one launch a parameter, which reads four tensors, and the norm of all gradients, and
//! writes three, 28 bytes and 15 flops an element.

use super::{AdamStep, Factors};
use crate::ops::cube::{elements, empty_like, vector_size};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

pub(in crate::ops) fn step<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    param: CubeTensor<R>,
    grad: CubeTensor<R>,
    first: CubeTensor<R>,
    second: CubeTensor<R>,
    norm: CubeTensor<R>,
    step: &AdamStep,
) -> [CubeTensor<R>; 3] {
    if [&param, &grad, &first, &second, &norm].iter().any(|tensor| tensor.dtype != DType::F32) {
        return super::portable::step::<CubeBackend<R, F, I, BT>>(param, grad, first, second, norm, step);
    }
    let [param, grad, first, second] = [param, grad, first, second].map(into_contiguous);
    let outputs = [&param, &first, &second].map(empty_like);
    let count = param.shape().num_elements();
    let size = vector_size(&param, count);
    let (cubes, units) = elements(count / size);
    let client = param.client.clone();
    let [param, grad, first, second, norm] = [param, grad, first, second, norm].map(CubeTensor::into_tensor_arg);
    let [to_param, to_first, to_second] = outputs.clone().map(CubeTensor::into_tensor_arg);
    let Factors { max_norm, beta_1, beta_2, new_1, new_2, epsilon, keep, rate, scale } = step.into();
    update::launch::<R>(
        &client, cubes, units, size, param, grad, first, second, norm, to_param, to_first, to_second, max_norm, beta_1,
        beta_2, new_1, new_2, epsilon, keep, rate, scale,
    );
    outputs
}

#[cube(launch)]
fn update<N: Size>(
    param: &Tensor<Vector<f32, N>>,
    grad: &Tensor<Vector<f32, N>>,
    first: &Tensor<Vector<f32, N>>,
    second: &Tensor<Vector<f32, N>>,
    norm: &Tensor<f32>, // [1]
    to_param: &mut Tensor<Vector<f32, N>>,
    to_first: &mut Tensor<Vector<f32, N>>,
    to_second: &mut Tensor<Vector<f32, N>>,
    max_norm: f32,
    beta_1: f32,
    beta_2: f32,
    new_1: f32,
    new_2: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
    scale: f32,
) {
    let i = ABSOLUTE_POS;
    if i >= to_param.len() {
        terminate!();
    }
    let norm = norm[0];
    // These two look at bits; a comparison may go, for shaders' compilers may suppose that all numbers are finite.
    if norm.is_nan() || norm.is_inf() {
        to_first[i] = first[i];
        to_second[i] = second[i];
        to_param[i] = param[i];
    } else {
        let clip = min(max_norm / (norm + 1e-6), 1.0);
        let grad = Vector::new(clip) * grad[i];
        let moment = Vector::new(beta_1) * first[i] + Vector::new(new_1) * grad;
        let square = Vector::new(beta_2) * second[i] + Vector::new(new_2) * grad * grad;
        let below = Vector::sqrt(square) * Vector::new(scale) + Vector::new(epsilon);
        to_first[i] = moment;
        to_second[i] = square;
        to_param[i] = Vector::new(keep) * param[i] - Vector::new(rate) * moment / below;
    }
}
