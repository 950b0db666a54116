//! The sum of squares in plain tensor operations.

use crate::ops::{cast, inner_dtype};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::sum_of_squares`](crate::ops::RwkvBackend::sum_of_squares).
///
/// # Panics
/// Without a tensor.
#[must_use]
pub fn sum<B: Backend>(tensors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    let sums = tensors.into_iter().map(|x| {
        let inside = inner_dtype(x.dtype());
        let x = cast::<B>(x, inside);
        B::float_sum(B::float_mul(x.clone(), x))
    });
    sums.reduce(B::float_add).expect("at least one tensor")
}
