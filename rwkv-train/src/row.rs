//! What came of single steps, gathered into rows of metrics.

use crate::flops::Meter;
use crate::metrics::Metrics;
use crate::progress::Progress;

/// What came of a step; no loss if it was left out.
pub(crate) struct Outcome {
    pub loss: Option<f64>,
    pub grad_norm: f64,
    pub lr: f64,
}

/// The steps since the last row of metrics.
#[derive(Default)]
pub(crate) struct Row {
    loss: f64,
    losses: usize,
    pub steps: usize,
    pub seconds: f64,
    grad_norm: f64,
}

impl Row {
    /// Takes in a step.
    pub(crate) fn add(&mut self, outcome: &Outcome, seconds: f64) {
        if let Some(loss) = outcome.loss {
            self.loss += loss;
            self.losses += 1;
            self.grad_norm = outcome.grad_norm;
        }
        self.steps += 1;
        self.seconds += seconds;
    }

    /// The row, without what is measured after it.
    pub(crate) fn metrics(
        self,
        progress: &Progress,
        lr: f64,
        tokens: u64,
        tokens_per_second: f64,
        meter: &Meter,
    ) -> Metrics {
        Metrics {
            step: progress.step,
            loss: self.loss / self.losses as f64,
            val_loss: None,
            val_accuracy: None,
            val_exact: None,
            tokens_per_second,
            lr,
            grad_norm: self.grad_norm,
            tokens,
            mfu: meter.mfu(tokens_per_second),
            seconds: None,
        }
    }
}
