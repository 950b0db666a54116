//! What training learns from: samples by number, wherever they come from.

use super::Batch;
use crate::error::Result;
use std::sync::Arc;

/// One sequence to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `ctx_len + 1` token ids: inputs are all but the last, targets all but the first.
    pub tokens: Vec<u32>,
    /// Other targets, where they are not what is read next; nothing means those of `tokens`.
    pub targets: Option<Vec<u32>>,
    /// The weight of each target in the loss; nothing means 1 for all.
    pub weights: Option<Vec<f32>>,
    /// Inputs before which the model starts anew, in rising order; 0 is a start anyway and not listed.
    pub resets: Vec<usize>,
}

impl Sample {
    /// A sample whose targets all count and that is one piece.
    #[must_use]
    pub fn plain(tokens: Vec<u32>) -> Self {
        Self { tokens, targets: None, weights: None, resets: Vec::new() }
    }
}

/// Samples in the order of training, each a pure function of its number.
///
/// The trainer's step `s` takes the next `batch_size · accumulate · workers` numbers, whoever computes which of them, so
/// accumulation, data-parallel training and one large batch see the same samples, and a run resumes by arithmetic.
pub trait Samples: Send + Sync {
    /// Inputs per sample.
    fn ctx_len(&self) -> usize;

    /// The sample of this number; numbers go on for ever, past the end of the data into the next pass.
    fn sample(&self, index: u64) -> Sample;

    /// The same data cut into samples of another length.
    ///
    /// # Errors
    /// When the data is too short for even one.
    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>>;

    /// Samples that cover the data once, for measuring a loss.
    fn len(&self) -> usize;

    /// Whether there is no sample at all; data like that is refused when it is opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `i`-th of the [`Self::len`] samples that cover the data once, in order.
    fn in_order(&self, i: usize) -> Sample;

    /// Whether targets that count are answers, of which right ones are to be counted ([`crate::exact_match`]). Such samples
    /// are one piece each, without resets.
    fn has_answers(&self) -> bool {
        false
    }

    /// Samples `first..first + count` of the training order, side by side.
    fn batch(&self, first: u64, count: usize) -> Batch {
        Batch::new((0..count as u64).map(|i| self.sample(first + i)), self.ctx_len())
    }
}

/// `limit` of the samples that cover the data, evenly spread, in order and in batches; all of them where there are fewer.
pub fn in_order(samples: &dyn Samples, limit: usize, batch_size: usize) -> impl Iterator<Item = Batch> + '_ {
    let count = samples.len();
    let taken = limit.min(count);
    (0..taken).step_by(batch_size.max(1)).map(move |first| {
        let end = (first + batch_size).min(taken);
        Batch::new((first..end).map(|i| samples.in_order(i * count / taken)), samples.ctx_len())
    })
}
