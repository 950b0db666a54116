//! The table's gradient in plain tensor operations.

use crate::ops::{RwkvBackend, inner_dtype, primitive, tensor};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// [`RwkvBackend::embedding_table_backward`].
#[must_use]
pub fn backward<B: RwkvBackend>(tokens: IntTensor<B>, grad: FloatTensor<B>, vocab: usize) -> FloatTensor<B> {
    let grad: Tensor<B, 2> = tensor(grad);
    let (dtype, [_, width]) = (grad.dtype(), grad.dims());
    let tokens = Tensor::<B, 1, Int>::from_primitive(tokens);
    let inside = inner_dtype(dtype);
    let table = Tensor::<B, 2>::zeros([vocab, width], &grad.device()).cast(inside);
    primitive(table.select_assign(0, tokens, grad.cast(inside), IndexingUpdateOp::Add).cast(dtype))
}
