//! Where a run's time goes.

use burn::tensor::backend::Backend;
use serde::Serialize;
use std::time::Instant;

/// A part of the training loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Choosing windows and moving them to the device.
    Data,
    /// Loss and gradients: the passes forward and backward.
    Backprop,
    /// The gradients' norm and Adam, and the wait for the device where loss and norm are looked at.
    Optimizer,
    /// The held-out text.
    Validation,
    /// Writing checkpoints.
    Checkpoint,
}

/// Seconds per phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Of [`Phase::Data`].
    pub data_s: f64,
    /// Of [`Phase::Backprop`].
    pub backprop_s: f64,
    /// Of [`Phase::Optimizer`].
    pub optimizer_s: f64,
    /// Of [`Phase::Validation`].
    pub validation_s: f64,
    /// Of [`Phase::Checkpoint`].
    pub checkpoint_s: f64,
    #[serde(skip)]
    waits: bool,
}

impl Timings {
    pub(crate) fn waiting_for_device() -> Self {
        Self { waits: true, ..Self::default() }
    }

    pub(crate) fn add(&mut self, phase: Phase, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        *match phase {
            Phase::Data => &mut self.data_s,
            Phase::Backprop => &mut self.backprop_s,
            Phase::Optimizer => &mut self.optimizer_s,
            Phase::Validation => &mut self.validation_s,
            Phase::Checkpoint => &mut self.checkpoint_s,
        } += seconds;
    }

    /// As [`Self::add`], after the device has caught up if that was asked for.
    pub(crate) fn end<B: Backend>(&mut self, phase: Phase, started: Instant, device: &B::Device) {
        if self.waits {
            // A failed wait shows itself when the loss is read; here it costs a wrong timing at most.
            let _ = B::sync(device);
        }
        self.add(phase, started);
    }
}
