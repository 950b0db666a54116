//! Inputs and targets, on the host and on a device.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Windows side by side, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Input ids, window by window.
    pub inputs: Vec<u32>,
    /// The ids that follow them.
    pub targets: Vec<u32>,
    /// Tokens per window.
    pub ctx_len: usize,
}

impl Batch {
    /// How many windows there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inputs.len() / self.ctx_len
    }

    /// Inputs and targets on a device, both `[B, T]`.
    #[must_use]
    pub fn tensors<B: Backend>(&self, device: &B::Device) -> (Tensor<B, 2, Int>, Tensor<B, 2, Int>) {
        let shape = [self.size(), self.ctx_len];
        let tensor = |ids: &[u32]| {
            let ids: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
            Tensor::from_data(TensorData::new(ids, shape), device)
        };
        (tensor(&self.inputs), tensor(&self.targets))
    }
}
