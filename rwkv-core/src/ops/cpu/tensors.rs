//! From a CPU backend's tensors to the kernels' slices and back: the same for every CPU backend.

use crate::ops::cast;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Int, Shape, Tensor, TensorData};

/// A backend whose tensors are in main memory.
pub(in crate::ops) trait CpuBackend: Backend {
    /// A tensor's elements, in row-major order without gaps.
    type Buffer: AsRef<[f32]>;

    /// A tensor of dtype `f32`, without a copy where its layout allows it.
    fn buffer(tensor: FloatTensor<Self>) -> Self::Buffer;

    /// The elements, to be written over, where no other tensor has them.
    fn elements_mut(buffer: &mut Self::Buffer) -> Option<&mut [f32]>;

    /// The tensor of a buffer.
    fn tensor(buffer: Self::Buffer) -> FloatTensor<Self>;
}

/// Reads a tensor as `f32`.
pub(in crate::ops) fn read<B: CpuBackend>(tensor: FloatTensor<B>) -> B::Buffer {
    B::buffer(cast::<B>(tensor, DType::F32))
}

/// Reads token ids.
pub(in crate::ops) fn read_ids<B: Backend>(ids: IntTensor<B>) -> Vec<i64> {
    Tensor::<B, 1, Int>::from_primitive(ids).into_data().iter::<i64>().collect()
}

/// A tensor of these elements.
pub(in crate::ops) fn write<B: Backend>(
    data: Vec<f32>,
    shape: impl Into<Shape>,
    dtype: DType,
    device: &B::Device,
) -> FloatTensor<B> {
    cast::<B>(B::float_from_data(TensorData::new(data, shape), device), dtype)
}
