//! The loss on text that was held out.

use crate::data::{Samples, in_order};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::loss::{token_nll, value};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// Samples per forward pass.
const BATCH: usize = 32;

/// Mean negative log-likelihood in nats per token over `limit` samples that cover the data without overlap, evenly
/// spread, each from the empty state; over all of them where there are fewer. Targets count by their weights.
pub fn validation_loss<B: RwkvBackend>(
    model: &Rwkv<B>,
    samples: &dyn Samples,
    limit: usize,
    device: &B::Device,
) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for batch in in_order(samples, limit, BATCH) {
        let (inputs, targets) = batch.tensors::<B>(device);
        let (logits, _) = model.forward(inputs, model.zero_state(batch.size()));
        let mut losses = token_nll(logits, targets);
        weight += batch.weight();
        if let Some(weights) = batch.weights {
            losses = losses.clone() * Tensor::from_data(TensorData::new(weights, losses.shape()), device);
        }
        sum += value(losses.sum());
    }
    sum / weight
}
