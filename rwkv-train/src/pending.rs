//! Steps whose loss and gradient norm were not looked at yet, and what becomes of a step once they were.
//!
//! To read a number is to wait for the device. So a step may leave its numbers there: Adam leaves a bad update out by itself,
//! and whoever counts steps hears of it later, in the steps' order.

use crate::config::TrainSection;
use crate::error::{Error, Result};
use crate::events::{Event, Spikes};
use crate::parallel::{self, Worker};
use crate::progress::Progress;
use crate::row::{Outcome, Row};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The steps since the last row of metrics: those not looked at, and what came of the others.
pub(crate) struct Pending<B: Backend> {
    unseen: Vec<Unseen<B>>,
    pub row: Row,
    spikes: Spikes,
    max_skips: usize,
}

/// A step's loss and gradient norm, on the device.
struct Unseen<B: Backend> {
    step: usize,
    lr: f64,
    numbers: [Tensor<B, 1>; 2],
}

impl<B: Backend> Pending<B> {
    pub(crate) fn new(train: &TrainSection) -> Self {
        let spikes = Spikes::new(train.spike_factor);
        Self { unseen: Vec::new(), row: Row::default(), spikes, max_skips: train.max_skips }
    }

    /// Remembers a step, counted from 1; loss and norm, of one dtype, are `[1]` each, and the loss is this worker's part.
    pub(crate) fn add(&mut self, step: usize, lr: f64, loss: Tensor<B, 1>, norm: Tensor<B, 1>) {
        self.unseen.push(Unseen { step, lr, numbers: [loss, norm] });
    }

    /// What came of all steps that were not looked at, in order. Their numbers are read at once: a step waits for the device
    /// here, and nowhere else if it works alone.
    pub(crate) fn look(&mut self, worker: &mut Worker) -> parallel::Result<Vec<Outcome>> {
        if self.unseen.is_empty() {
            return Ok(Vec::new());
        }
        let mut numbers = Vec::new();
        let mut steps = Vec::new();
        for unseen in self.unseen.drain(..) {
            steps.push((unseen.step, unseen.lr));
            numbers.extend(unseen.numbers);
        }
        let numbers: Vec<f64> = Tensor::cat(numbers, 0).into_data().iter().collect();
        let outcomes = steps.into_iter().zip(numbers.chunks_exact(2)).map(|((step, lr), numbers)| {
            Ok(Outcome { step, lr, loss: worker.sum(&numbers[..1])?[0], grad_norm: numbers[1] })
        });
        outcomes.collect()
    }

    /// Takes in a step that learnt. Steps are to be taken in, or left out, in their order.
    pub(crate) fn take_in(&mut self, outcome: &Outcome, progress: &mut Progress) -> Option<Event> {
        progress.skipped = 0;
        self.row.add(outcome);
        self.spikes.look(progress, outcome)
    }

    /// Counts a step that was left out.
    ///
    /// # Errors
    /// [`Error::Diverged`] when it is one too many in a row.
    pub(crate) fn leave_out(&mut self, outcome: &Outcome, culprit: String, progress: &mut Progress) -> Result<Event> {
        let &Outcome { step, lr, loss, grad_norm } = outcome;
        progress.skipped += 1;
        if progress.skipped > self.max_skips {
            return Err(Error::Diverged { step, loss, lr, grad_norm, culprit, skipped: self.max_skips });
        }
        self.row.add(outcome);
        Ok(Event::Skipped { step, loss, grad_norm, lr, culprit })
    }
}

/// What is said in place of the first bad tensor of a step that was looked at this many steps later.
pub(crate) fn looked_at_later(steps: usize) -> String {
    let later = match steps {
        0 => "after its end".to_owned(),
        1 => "a step later".to_owned(),
        _ => format!("{steps} steps later"),
    };
    format!("it was looked at {later}, when its tensors were gone; check_every = 1 names the first bad one")
}
