//! Products with a packed matrix on a backend without a kernel for them: the matrix is unpacked every time.

use super::PackedMatrix;
use crate::ops::linear::portable::by_rows;
use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorData};

/// Default body of [`RwkvBackend::packed_linear_forward`](crate::ops::RwkvBackend::packed_linear_forward).
#[must_use]
pub fn forward<B: Backend>(x: FloatTensor<B>, weight: &PackedMatrix) -> FloatTensor<B> {
    by_rows::<B>(x, |x| {
        let x = tensor::<B, 2>(x);
        let dtype = x.dtype();
        let weight = unpacked::<B>(weight, &x.device(), inner_dtype(dtype));
        primitive(x.cast(inner_dtype(dtype)).matmul(weight.transpose()).cast(dtype))
    })
}

/// Default body of [`RwkvBackend::packed_linear_backward`](crate::ops::RwkvBackend::packed_linear_backward):
/// `∂x = grad·W`.
#[must_use]
pub fn backward<B: Backend>(weight: &PackedMatrix, grad: FloatTensor<B>) -> FloatTensor<B> {
    by_rows::<B>(grad, |grad| {
        let grad = tensor::<B, 2>(grad);
        let dtype = grad.dtype();
        let weight = unpacked::<B>(weight, &grad.device(), inner_dtype(dtype));
        primitive(grad.cast(inner_dtype(dtype)).matmul(weight).cast(dtype))
    })
}

fn unpacked<B: Backend>(weight: &PackedMatrix, device: &B::Device, dtype: DType) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(weight.unpack(), [weight.rows(), weight.columns()]), (device, dtype))
}
