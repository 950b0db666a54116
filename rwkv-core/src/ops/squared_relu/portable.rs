//! The squared ReLU in plain tensor operations.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::squared_relu_forward`](crate::ops::RwkvBackend::squared_relu_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let positive = B::relu(x);
    B::float_mul(positive.clone(), positive)
}

/// Default body of [`RwkvBackend::squared_relu_backward`](crate::ops::RwkvBackend::squared_relu_backward):
/// `∂x = 2·max(x, 0)·grad`.
#[must_use]
pub fn backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(B::float_mul_scalar(B::relu(x), 2.0.into()), grad)
}
