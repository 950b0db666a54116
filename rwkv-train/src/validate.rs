//! The loss on data that was held out, and the answers to it.

use crate::data::{Samples, in_order};
use crate::exact_match::{self, Score};
use crate::trainee::Trainee;
use burn::tensor::{Tensor, TensorData};
use rwkv_core::loss::value;
use rwkv_core::model::{NoHook, Restarts};
use rwkv_core::ops::RwkvBackend;

/// Samples per forward pass.
pub(crate) const BATCH: usize = 32;
/// Tokens per forward pass, at most, if that is less.
pub(crate) const TOKENS: usize = 1 << 14;
/// Positions whose logits exist at the same time.
const CHUNK: usize = 1024;

/// What a validation measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    /// Mean negative log-likelihood in nats per token.
    pub loss: f64,
    /// How many answers are right, where the data has answers.
    pub score: Option<Score>,
}

/// [`validation_loss`], and with it the answers where [the samples have some](Samples::has_answers).
pub fn validate<B: RwkvBackend>(
    trainee: &Trainee<B>,
    samples: &dyn Samples,
    limit: usize,
    device: &B::Device,
) -> Validation {
    if samples.has_answers() {
        let (loss, score) = exact_match::measure(trainee, samples, limit, device);
        Validation { loss, score: Some(score) }
    } else {
        Validation { loss: validation_loss(trainee, samples, limit, device), score: None }
    }
}

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
