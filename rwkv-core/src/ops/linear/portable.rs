//! Projections by the backend's own matrix product.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::linear_forward`](crate::ops::RwkvBackend::linear_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(x, weight)
}

/// Default body of [`RwkvBackend::linear_backward_x`](crate::ops::RwkvBackend::linear_backward_x).
#[must_use]
pub fn backward_x<B: Backend>(weight: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(grad, B::float_transpose(weight))
}

/// Default body of [`RwkvBackend::linear_backward_weight`](crate::ops::RwkvBackend::linear_backward_weight).
#[must_use]
pub fn backward_weight<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(x), grad)
}
