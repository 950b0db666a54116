//! The operations on NdArray: the native CPU kernels on its arrays, and plain tensor operations for `f64`.

use super::cpu_operations;
use super::tensors::CpuBackend;
use crate::ops::RwkvBackend;
use burn::backend::NdArray;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_ndarray::{FloatNdArrayElement, IntNdArrayElement, NdArrayTensor, QuantElement, SharedArray};

impl<E, I, Q> RwkvBackend for NdArray<E, I, Q>
where
    E: FloatNdArrayElement,
    I: IntNdArrayElement,
    Q: QuantElement,
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    cpu_operations!();
}

impl<E, I, Q> CpuBackend for NdArray<E, I, Q>
where
    E: FloatNdArrayElement,
    I: IntNdArrayElement,
    Q: QuantElement,
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    type Buffer = NdArrayBuffer;

    fn buffer(tensor: NdArrayTensor) -> NdArrayBuffer {
        let NdArrayTensor::F32(storage) = tensor else {
            unreachable!("the tensor was cast to f32");
        };
        let array = storage.into_shared();
        NdArrayBuffer(if array.is_standard_layout() {
            array
        } else {
            array.as_standard_layout().into_owned().into_shared()
        })
    }

    fn elements_mut(NdArrayBuffer(array): &mut NdArrayBuffer) -> Option<&mut [f32]> {
        if array.is_unique() { array.as_slice_mut() } else { None }
    }

    fn tensor(NdArrayBuffer(array): NdArrayBuffer) -> NdArrayTensor {
        array.into()
    }
}

/// An array in row-major order without gaps.
pub(in crate::ops) struct NdArrayBuffer(SharedArray<f32>);

impl AsRef<[f32]> for NdArrayBuffer {
    fn as_ref(&self) -> &[f32] {
        self.0.as_slice().expect("the array was put into standard layout")
    }
}
