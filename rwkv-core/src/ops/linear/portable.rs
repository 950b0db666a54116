//! Projections by the backend's own matrix product.

use super::{width, with_width};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, TensorMetadata};

/// Default body of [`RwkvBackend::linear_forward`](crate::ops::RwkvBackend::linear_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    by_rows::<B>(x, |x| B::float_matmul(x, weight))
}

/// Default body of [`RwkvBackend::linear_backward_x`](crate::ops::RwkvBackend::linear_backward_x).
#[must_use]
pub fn backward_x<B: Backend>(weight: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    by_rows::<B>(grad, |grad| B::float_matmul(grad, B::float_transpose(weight)))
}

/// Default body of [`RwkvBackend::linear_backward_weight`](crate::ops::RwkvBackend::linear_backward_weight).
#[must_use]
pub fn backward_weight<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(as_matrix::<B>(x)), as_matrix::<B>(grad))
}

/// What `product` makes of the rows of all leading dimensions as one matrix, in these dimensions again.
pub(in crate::ops) fn by_rows<B: Backend>(
    x: FloatTensor<B>,
    product: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = x.shape();
    let out = product(as_matrix::<B>(x));
    let shape = with_width(shape, width(&out.shape()));
    reshape::<B>(out, shape)
}

fn as_matrix<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let width = width(&shape);
    let rows = shape.iter().rev().skip(1).product();
    reshape::<B>(x, Shape::new([rows, width]))
}

/// NdArray would copy a tensor that has the shape already.
fn reshape<B: Backend>(x: FloatTensor<B>, shape: Shape) -> FloatTensor<B> {
    if x.shape() == shape { x } else { B::float_reshape(x, shape) }
}
