//! The squared ReLU in plain tensor operations.

use crate::ops::{cast, inner_dtype};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::squared_relu_forward`](crate::ops::RwkvBackend::squared_relu_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = x.dtype();
    let positive = B::relu(cast::<B>(x, inner_dtype(dtype)));
    cast::<B>(B::float_mul(positive.clone(), positive), dtype)
}

/// Default body of [`RwkvBackend::squared_relu_backward`](crate::ops::RwkvBackend::squared_relu_backward):
/// `∂x = 2·max(x, 0)·grad`.
#[must_use]
pub fn backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let (dtype, inside) = (x.dtype(), inner_dtype(x.dtype()));
    let twice = B::float_mul_scalar(B::relu(cast::<B>(x, inside)), 2.0.into());
    cast::<B>(B::float_mul(twice, cast::<B>(grad, inside)), dtype)
}
