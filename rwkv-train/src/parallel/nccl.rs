//! The sum over NVIDIA GPUs by NCCL, through Burn's `DistributedBackend`.

use burn::backend::Cuda;
use burn::tensor::backend::distributed::{DistributedBackend, ReduceOperation};
use burn::tensor::backend::{Backend, DeviceId, DeviceOps};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use std::any::{Any, TypeId};

/// The GPUs that sum together.
pub(super) struct Ring {
    devices: Vec<DeviceId>,
}

impl Ring {
    /// `None` for another backend than CUDA with its usual number types.
    pub(super) fn new<B: Backend>(devices: &[B::Device]) -> Option<Self> {
        let serves = TypeId::of::<B>() == TypeId::of::<Cuda>() && devices.len() > 1;
        serves.then(|| Self { devices: devices.iter().map(DeviceOps::id).collect() })
    }

    /// The sum over all GPUs; every one of them must come here.
    ///
    /// Does not wait for the GPU: a failure of NCCL shows at the next reading from the device.
    pub(super) fn sum<B: Backend>(&self, tensor: Tensor<B, 1>) -> Tensor<B, 1> {
        let tensor: Box<dyn Any> = Box::new(tensor.into_primitive().tensor());
        let tensor: FloatTensor<Cuda> = *tensor.downcast().expect("the backend is CUDA, as `new` saw");
        let sum = <Cuda>::all_reduce(tensor, ReduceOperation::Sum, self.devices.clone()).resolve();
        let sum: Box<dyn Any> = Box::new(sum);
        let sum: FloatTensor<B> = *sum.downcast().expect("the backend is CUDA, as `new` saw");
        Tensor::from_primitive(TensorPrimitive::Float(sum))
    }
}
