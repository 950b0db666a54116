//! The squared ReLU on CubeCL backends: one launch forward (reads `x`, writes `out`), one backward (reads `x` and `grad`,
//! writes `∂x`).

use crate::ops::cube::{elements, empty_like, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub(in crate::ops) fn forward<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let out = empty_like(&x);
    let count = x.shape().num_elements();
    let size = vector_size(&x, count);
    let (cubes, units) = elements(count / size);
    let dtypes = [x.dtype.into(), inner_dtype(x.dtype).into()];
    let client = x.client.clone();
    square::launch::<R>(&client, cubes, units, size, x.into_tensor_arg(), out.clone().into_tensor_arg(), dtypes);
    out
}

pub(in crate::ops) fn backward<R: CubeRuntime>(x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
    let [x, grad] = [x, grad].map(into_contiguous);
    let out = empty_like(&x);
    let count = x.shape().num_elements();
    let size = vector_size(&x, count);
    let (cubes, units) = elements(count / size);
    let dtypes = [x.dtype.into(), grad.dtype.into(), inner_dtype(x.dtype).into()];
    let client = x.client.clone();
    let [x, grad] = [x, grad].map(CubeTensor::into_tensor_arg);
    spread::launch::<R>(&client, cubes, units, size, x, grad, out.clone().into_tensor_arg(), dtypes);
    out
}

#[cube(launch)]
fn square<F: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let zero = Vector::<S, N>::new(S::new(0.0));
    let x = Vector::<S, N>::cast_from(x[i]);
    // Not by a maximum, which may lose a NaN.
    out[i] = Vector::cast_from(select_many(x.less_than(zero), zero, x * x));
}

#[cube(launch)]
fn spread<F: Float, D: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    grad: &Tensor<Vector<D, N>>,
    out: &mut Tensor<Vector<F, N>>,
    #[define(F, D, S)] _dtypes: [StorageType; 3],
) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let zero = Vector::<S, N>::new(S::new(0.0));
    let x = Vector::<S, N>::cast_from(x[i]);
    let grad = Vector::<S, N>::cast_from(grad[i]);
    out[i] = Vector::cast_from(select_many(x.less_than(zero), zero, (x + x) * grad));
}
