//! Layer normalisation in plain tensor operations.

use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, Tensor, TensorMetadata};

/// Default body of [`RwkvBackend::layer_norm_forward`](crate::ops::RwkvBackend::layer_norm_forward).
#[must_use]
pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let (normal, _) = normalise(rows::<B>(x, inner_dtype(dtype)), epsilon);
    let affine = |parameter| tensor::<B, 1>(parameter).cast(inner_dtype(dtype)).unsqueeze::<2>();
    restore(normal * affine(weight) + affine(bias), shape, dtype)
}

/// Default body of [`RwkvBackend::layer_norm_backward`](crate::ops::RwkvBackend::layer_norm_backward). With
/// `n = (x − mean)/σ` and `h = weight ⊙ grad`: `∂x = (h − mean(h) − n·mean(h ⊙ n))/σ`, `∂weight = Σ n ⊙ grad` and
/// `∂bias = Σ grad`.
#[must_use]
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 3] {
    let (shape, dtype) = (x.shape(), x.dtype());
    let inside = inner_dtype(dtype);
    let weight = tensor::<B, 1>(weight);
    let parameters = weight.dtype();
    let grad = rows::<B>(grad, inside);
    let (normal, inverse) = normalise(rows::<B>(x, inside), epsilon);

    let to_weight = (grad.clone() * normal.clone()).sum_dim(0).squeeze_dim::<1>(0);
    let to_bias = grad.clone().sum_dim(0).squeeze_dim::<1>(0);
    let h = grad * weight.cast(inside).unsqueeze::<2>();
    let along = (h.clone() * normal.clone()).mean_dim(1);
    let to_x = (h.clone() - h.mean_dim(1) - normal * along) * inverse;
    [restore(to_x, shape, dtype), primitive(to_weight.cast(parameters)), primitive(to_bias.cast(parameters))]
}

/// `(x − mean)/√(variance + ε)` of every row and `1/√(variance + ε)`.
fn normalise<B: Backend>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let inverse = (centred.clone().square().mean_dim(1) + epsilon).sqrt().recip();
    (centred * inverse.clone(), inverse)
}

/// Any shape `[…, C]` as a matrix.
fn rows<B: Backend>(x: FloatTensor<B>, dtype: DType) -> Tensor<B, 2> {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    let matrix = Shape::new([shape.num_elements() / width, width]);
    tensor::<B, 2>(B::float_reshape(x, matrix)).cast(dtype)
}

fn restore<B: Backend>(x: Tensor<B, 2>, shape: Shape, dtype: DType) -> FloatTensor<B> {
    B::float_reshape(primitive(x.cast(dtype)), shape)
}
