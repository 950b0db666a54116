//! The loss on text that was held out.

use crate::data::Windows;
use rwkv_core::loss::{token_nll, value};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// Windows per forward pass.
const BATCH: usize = 32;

/// Mean negative log-likelihood in nats per token over `limit` windows without overlap, evenly spread over the stream,
/// each from the empty state; over all of them where there are fewer.
pub fn validation_loss<B: RwkvBackend>(model: &Rwkv<B>, windows: &Windows, limit: usize, device: &B::Device) -> f64 {
    let mut sum = 0.0;
    let mut tokens = 0;
    for batch in windows.sequential(limit, BATCH) {
        let (inputs, targets) = batch.tensors::<B>(device);
        let (logits, _) = model.forward(inputs, model.zero_state(batch.size()));
        sum += value(token_nll(logits, targets).sum());
        tokens += batch.targets.len();
    }
    sum / tokens as f64
}
