//! WKV on NdArray: the native CPU kernels on its arrays.

use super::cpu::backend::{self, CpuBackend};
use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::RwkvBackend;
use burn::backend::NdArray;
use burn_ndarray::{FloatNdArrayElement, IntNdArrayElement, NdArrayTensor, QuantElement, SharedArray};

impl<E, I, Q> RwkvBackend for NdArray<E, I, Q>
where
    E: FloatNdArrayElement,
    I: IntNdArrayElement,
    Q: QuantElement,
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        backend::forward(inputs, with_lse)
    }

    fn wkv_backward(saved: WkvSaved<Self>, gy: NdArrayTensor, adjoint: NdArrayTensor) -> WkvGradients<Self> {
        backend::backward(saved, gy, adjoint)
    }
}

impl<E, I, Q> CpuBackend for NdArray<E, I, Q>
where
    E: FloatNdArrayElement,
    I: IntNdArrayElement,
    Q: QuantElement,
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    type Buffer = NdArrayBuffer;

    fn read(tensor: NdArrayTensor) -> NdArrayBuffer {
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
}

/// An array in row-major order without gaps.
pub(super) struct NdArrayBuffer(SharedArray<f32>);

impl AsRef<[f32]> for NdArrayBuffer {
    fn as_ref(&self) -> &[f32] {
        self.0.as_slice().expect("the array was put into standard layout")
    }
}
