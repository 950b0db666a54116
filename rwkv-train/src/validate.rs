//! The loss on text that was held out.

use crate::data::{Samples, in_order};
use crate::trainee::Trainee;
use burn::tensor::{Tensor, TensorData};
use rwkv_core::loss::value;
use rwkv_core::model::{NoHook, Restarts};
use rwkv_core::ops::RwkvBackend;

/// Samples per forward pass.
const BATCH: usize = 32;
/// Tokens per forward pass, at most, if that is less.
const TOKENS: usize = 1 << 14;
/// Positions whose logits exist at the same time.
const CHUNK: usize = 1024;

/// Mean negative log-likelihood in nats per token over `limit` samples that cover the data without overlap, evenly
/// spread, each from the state that sequences start from; over all of them where there are fewer. Targets count by their
/// weights.
pub fn validation_loss<B: RwkvBackend>(
    trainee: &Trainee<B>,
    samples: &dyn Samples,
    limit: usize,
    device: &B::Device,
) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for batch in in_order(samples, limit, BATCH.min((TOKENS / samples.ctx_len()).max(1))) {
        let rows = batch.size();
        let (inputs, targets) = batch.tensors::<B>(device);
        let restarts = (!batch.resets.is_empty()).then(|| Restarts::new(&batch.resets, rows, trainee.start(1)));
        let (x, _) = trainee.model.hidden(inputs, trainee.start(rows), restarts.as_ref(), &mut NoHook);
        weight += batch.weight();
        let shape = [rows, batch.ctx_len];
        let weights = batch.weights.map(|weights| Tensor::from_data(TensorData::new(weights, shape), device));
        sum += value(trainee.model.head_loss(x, targets, weights, 0.0, CHUNK, &mut NoHook));
    }
    sum / weight
}
