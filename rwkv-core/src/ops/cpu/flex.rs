//! The operations on Flex: the native CPU kernels on its buffers.

use super::cpu_operations;
use super::tensors::CpuBackend;
use crate::ops::RwkvBackend;
use burn::backend::Flex;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_flex::FlexTensor;

impl RwkvBackend for Flex {
    cpu_operations!();
}

impl CpuBackend for Flex {
    type Buffer = FlexBuffer;

    fn buffer(tensor: FlexTensor) -> FlexBuffer {
        FlexBuffer(tensor.to_contiguous())
    }

    fn elements_mut(FlexBuffer(tensor): &mut FlexBuffer) -> Option<&mut [f32]> {
        tensor.try_storage_mut()
    }

    fn tensor(FlexBuffer(tensor): FlexBuffer) -> FlexTensor {
        tensor
    }
}

/// A Flex tensor that covers its whole buffer, in order.
pub(in crate::ops) struct FlexBuffer(FlexTensor);

impl AsRef<[f32]> for FlexBuffer {
    fn as_ref(&self) -> &[f32] {
        self.0.storage()
    }
}
