//! The gate on CubeCL backends: one launch forward, one backward.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | forward | 1 | `r`, `y` | `out` | 4, one exponential |
//! | backward | 1 | `r`, `y`, `grad` | `∂r`, `∂y` | 8, one exponential |

use crate::ops::cube::{elements, empty_like, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub(in crate::ops) fn forward<R: CubeRuntime>(r: CubeTensor<R>, y: CubeTensor<R>) -> CubeTensor<R> {
    let [r, y] = [r, y].map(into_contiguous);
    let out = empty_like(&y);
    let count = y.shape().num_elements();
    let size = vector_size(&y, count);
    let (cubes, units) = elements(count / size);
    let dtypes = [r.dtype.into(), y.dtype.into(), inner_dtype(y.dtype).into()];
    let client = y.client.clone();
    let [r, y] = [r, y].map(CubeTensor::into_tensor_arg);
    open::launch::<R>(&client, cubes, units, size, r, y, out.clone().into_tensor_arg(), dtypes);
    out
}

pub(in crate::ops) fn backward<R: CubeRuntime>(
    r: CubeTensor<R>,
    y: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let [r, y, grad] = [r, y, grad].map(into_contiguous);
    let outputs = [&r, &y].map(empty_like);
    let count = y.shape().num_elements();
    let size = vector_size(&y, count);
    let (cubes, units) = elements(count / size);
    let dtypes = [r.dtype.into(), y.dtype.into(), grad.dtype.into(), inner_dtype(y.dtype).into()];
    let client = y.client.clone();
    let [r, y, grad] = [r, y, grad].map(CubeTensor::into_tensor_arg);
    let [to_r, to_y] = outputs.clone().map(CubeTensor::into_tensor_arg);
    spread::launch::<R>(&client, cubes, units, size, r, y, grad, to_r, to_y, dtypes);
    outputs
}

/// `σ(r)`, without overflow on either side.
#[cube]
pub(in crate::ops) fn sigmoid<S: Float, N: Size>(r: Vector<S, N>) -> Vector<S, N> {
    let one = Vector::<S, N>::new(S::new(1.0));
    let zero = Vector::<S, N>::new(S::new(0.0));
    let small = Vector::exp(zero - Vector::abs(r));
    let top = select_many(r.greater_than(zero), one, small);
    top / (one + small)
}

#[cube(launch)]
fn open<G: Float, F: Float, S: Float, N: Size>(
    r: &Tensor<Vector<G, N>>,
    y: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    #[define(G, F, S)] _dtypes: [StorageType; 3],
) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let open = sigmoid::<S, N>(Vector::cast_from(r[i]));
    let y = Vector::<S, N>::cast_from(y[i]);
    out[i] = Vector::cast_from(open * y);
}

#[cube(launch)]
fn spread<G: Float, F: Float, D: Float, S: Float, N: Size>(
    r: &Tensor<Vector<G, N>>,
    y: &Tensor<Vector<F, N>>,
    grad: &Tensor<Vector<D, N>>,
    to_r: &mut Tensor<Vector<G, N>>,
    to_y: &mut Tensor<Vector<F, N>>,
    #[define(G, F, D, S)] _dtypes: [StorageType; 4],
) {
    let i = ABSOLUTE_POS;
    if i >= to_y.len() {
        terminate!();
    }
    let one = Vector::<S, N>::new(S::new(1.0));
    let open = sigmoid::<S, N>(Vector::cast_from(r[i]));
    let through = open * Vector::cast_from(grad[i]);
    let y = Vector::<S, N>::cast_from(y[i]);
    to_y[i] = Vector::cast_from(through);
    to_r[i] = Vector::cast_from(through * y * (one - open));
}
