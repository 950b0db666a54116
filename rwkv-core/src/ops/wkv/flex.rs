//! WKV on Flex: the native CPU kernels on its buffers.

use super::cpu::backend::{self, CpuBackend};
use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::RwkvBackend;
use burn::backend::Flex;
use burn_flex::FlexTensor;

impl RwkvBackend for Flex {
    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        backend::forward(inputs, with_lse)
    }

    fn wkv_backward(saved: WkvSaved<Self>, gy: FlexTensor, adjoint: FlexTensor) -> WkvGradients<Self> {
        backend::backward(saved, gy, adjoint)
    }
}

impl CpuBackend for Flex {
    type Buffer = FlexBuffer;

    fn read(tensor: FlexTensor) -> FlexBuffer {
        FlexBuffer(tensor.to_contiguous())
    }
}

/// A Flex tensor that covers its whole buffer, in order.
pub(super) struct FlexBuffer(FlexTensor);

impl AsRef<[f32]> for FlexBuffer {
    fn as_ref(&self) -> &[f32] {
        self.0.storage()
    }
}
