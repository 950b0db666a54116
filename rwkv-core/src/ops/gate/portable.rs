//! The gate in plain tensor operations.

use crate::ops::{cast, inner_dtype};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Default body of [`RwkvBackend::gate_forward`](crate::ops::RwkvBackend::gate_forward).
#[must_use]
pub fn forward<B: Backend>(r: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    let (dtype, inside) = (y.dtype(), inner_dtype(y.dtype()));
    cast::<B>(B::float_mul(B::sigmoid(cast::<B>(r, inside)), cast::<B>(y, inside)), dtype)
}

/// Default body of [`RwkvBackend::gate_backward`](crate::ops::RwkvBackend::gate_backward):
/// `∂y = σ(r)·grad` and `∂r = y·σ(r)·(1−σ(r))·grad`.
#[must_use]
pub fn backward<B: Backend>(r: FloatTensor<B>, y: FloatTensor<B>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let (dtypes, inside) = ([r.dtype(), y.dtype()], inner_dtype(y.dtype()));
    let open = B::sigmoid(cast::<B>(r, inside));
    let to_y = B::float_mul(cast::<B>(grad, inside), open.clone());
    // σ(1−σ) as σ·σ(−r) would cost another exponential; 1 − σ loses nothing that the product keeps.
    let shut = B::float_add_scalar(B::float_neg(open), 1.0.into());
    let to_r = B::float_mul(B::float_mul(to_y.clone(), cast::<B>(y, inside)), shut);
    [cast::<B>(to_r, dtypes[0]), cast::<B>(to_y, dtypes[1])]
}
