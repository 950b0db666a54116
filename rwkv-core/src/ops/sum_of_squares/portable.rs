//! The sum of squares in plain tensor operations.

use crate::ops::{cast, inner_dtype};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::sum_of_squares`](crate::ops::RwkvBackend::sum_of_squares).
#[must_use]
pub fn sum<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let inside = inner_dtype(x.dtype());
    let x = cast::<B>(x, inside);
    B::float_sum(B::float_mul(x.clone(), x))
}
