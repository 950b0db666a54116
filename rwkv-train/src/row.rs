//! What came of single steps, gathered into rows of metrics.

use crate::flops::Meter;
use crate::metrics::Metrics;
use crate::progress::Progress;

/// What came of a step, counted from 1.
pub(crate) struct Outcome {
    pub step: usize,
    pub lr: f64,
    pub loss: f64,
    pub grad_norm: f64,
}

impl Outcome {
    /// Whether the step learns: its loss and its gradient are numbers.
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}

/// The steps since the last row of metrics.
#[derive(Default)]
pub(crate) struct Row {
    loss: f64,
    losses: usize,
    pub steps: usize,
    pub seconds: f64,
    grad_norm: f64,
    lr: f64,
}

impl Row {
    /// Takes in a step; no loss if it was left out. Its time is not the step's alone, and added beside.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        if outcome.is_finite() {
            self.loss += outcome.loss;
            self.losses += 1;
            self.grad_norm = outcome.grad_norm;
        }
        self.lr = outcome.lr;
        self.steps += 1;
    }

    /// The row, without what is measured after it.
    pub(crate) fn metrics(self, progress: &Progress, tokens: u64, tokens_per_second: f64, meter: &Meter) -> Metrics {
        Metrics {
            step: progress.step,
            loss: self.loss / self.losses as f64,
            val_loss: None,
            val_accuracy: None,
            val_exact: None,
            tokens_per_second,
            lr: self.lr,
            grad_norm: self.grad_norm,
            tokens,
            mfu: meter.mfu(tokens_per_second),
            seconds: None,
        }
    }
}
