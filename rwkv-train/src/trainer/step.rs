//! One step, and what becomes of it once somebody looks at its numbers.

use super::{Observer, Trainer};
use crate::backprop;
use crate::config::TrainSection;
use crate::data::{Batch, Samples};
use crate::error::Result;
use crate::events::Event;
use crate::finite;
use crate::optim::{Update, global_norm};
use crate::parallel::Worker;
use crate::pending::{Pending, looked_at_later};
use crate::row::Outcome;
use crate::timings::Phase;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_core::ops::RwkvAutodiffBackend;
use std::time::Instant;

/// Steps between two looks at loss and gradient norm.
pub(super) fn looks_every(train: &TrainSection, world: usize, in_main_memory: bool) -> usize {
    match train.check_every {
        // Whether a loss is a number is known of all workers' losses together, and those meet on the host.
        _ if world > 1 => 1,
        0 if in_main_memory => 1,
        0 => train.log_every,
        every => every,
    }
}

impl<B: RwkvAutodiffBackend> Trainer<B> {
    /// One step of the schedule: an update, or none if loss or gradient are no numbers. With `looks` they are looked at, and
    /// those of all steps that were not.
    pub(super) fn train_step(
        &mut self,
        samples: &dyn Samples,
        looks: bool,
        pending: &mut Pending<B::InnerBackend>,
        worker: &mut Worker,
        observer: &mut dyn Observer<B>,
    ) -> Result<()> {
        let (step, lr) = (self.progress.step, self.schedule.lr(self.progress.step));
        let started = Instant::now();
        let batches = self.batches(samples, worker);
        let weight: f64 = batches.iter().map(|(_, batch)| batch.weight()).sum();
        let weight = worker.sum(&[weight])?[0];
        self.timings.end::<B>(Phase::Data, started, &self.device);

        let started = Instant::now();
        let mut grads = GradientsParams::new();
        let mut loss: Option<Tensor<B::InnerBackend, 1>> = None;
        for (first, batch) in &batches {
            let samples = *first..first + batch.size() as u64;
            // A step whose targets all weigh nothing learns nothing.
            let scale = if weight > 0.0 { 1.0 / weight } else { 0.0 };
            let (of_batch, more) = self.backprop.gradients(self.trainee(), batch, samples, scale);
            backprop::add(self.trainee(), &mut grads, more);
            loss = Some(match loss {
                None => of_batch,
                Some(sum) => sum + of_batch,
            });
        }
        self.timings.end::<B>(Phase::Backprop, started, &self.device);

        let started = Instant::now();
        let loss = loss.expect("accumulate is positive, validated");
        // After an error the weights are those of the step before, whole: good for a checkpoint.
        let grads = worker.sum_gradients(self.trainee(), grads)?;
        let norm = global_norm(self.trainee(), &grads, &self.device).cast(loss.dtype());
        pending.add(step + 1, lr, loss.clone(), norm.clone());
        let mut outcomes = if looks { pending.look(worker)? } else { Vec::new() };
        let own = outcomes.pop();
        self.settle(&outcomes, step + 1, pending, worker, observer)?;
        let event = match own {
            Some(own) if !own.is_finite() => {
                let culprit = finite::first_bad(self.trainee(), &grads, batches.first().map(|(_, batch)| batch));
                self.progress.step += 1;
                Some(pending.leave_out(&own, culprit, &mut self.progress)?)
            }
            own => {
                // No number either where the loss is none.
                self.update(lr, grads, norm + loss.mul_scalar(0.0));
                self.progress.step += 1;
                self.timings.end::<B>(Phase::Optimizer, started, &self.device);
                own.and_then(|own| pending.take_in(&own, &mut self.progress))
            }
        };
        tell(worker, observer, event.as_ref())
    }

    /// Adam's update, which the device leaves out where the norm is no number, and the moving average's.
    fn update(&mut self, lr: f64, grads: GradientsParams, norm: Tensor<B::InnerBackend, 1>) {
        let (weight_decay, max_norm) = (self.config.weight_decay(self.progress.step), self.config.train.grad_clip);
        let trainee = self.trainee.take().expect("the trainee is away only while the optimizer steps");
        let trainee = self.optimizer.step(Update { lr, weight_decay, max_norm }, trainee, grads, norm);
        self.ema = self.ema.take().map(|ema| ema.update(&trainee));
        self.trainee = Some(trainee);
    }

    /// Takes in, at step `now`, what came of steps whose updates were made, or left out, before anybody looked.
    pub(super) fn settle(
        &mut self,
        outcomes: &[Outcome],
        now: usize,
        pending: &mut Pending<B::InnerBackend>,
        worker: &Worker,
        observer: &mut dyn Observer<B>,
    ) -> Result<()> {
        for outcome in outcomes {
            let event = if outcome.is_finite() {
                pending.take_in(outcome, &mut self.progress)
            } else {
                self.optimizer.leave_out();
                Some(pending.leave_out(outcome, looked_at_later(now - outcome.step), &mut self.progress)?)
            };
            tell(worker, observer, event.as_ref())?;
        }
        Ok(())
    }

    /// This worker's micro-batches of the step at hand, with the numbers of their first samples.
    fn batches(&self, samples: &dyn Samples, worker: &Worker) -> Vec<(u64, Batch)> {
        let (step, world) = (self.progress.step, worker.world());
        let batch_size = self.config.shape_at(step).0;
        let first = self.config.samples_before(step, world);
        let micro = |i: usize| {
            let first = first + ((i * world + worker.rank()) * batch_size) as u64;
            (first, samples.batch(first, batch_size))
        };
        (0..self.config.train.accumulate).map(micro).collect()
    }
}

fn tell<B: RwkvAutodiffBackend>(worker: &Worker, observer: &mut dyn Observer<B>, event: Option<&Event>) -> Result<()> {
    match event {
        Some(event) if worker.rank() == 0 => observer.on_event(event),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_gpu_is_asked_once_a_row() {
        let train = |check_every| TrainSection { check_every, log_every: 10, ..TrainSection::default() };
        assert_eq!(looks_every(&train(0), 1, false), 10);
        assert_eq!(looks_every(&train(0), 1, true), 1);
        assert_eq!([1, 4].map(|every| looks_every(&train(every), 1, true)), [1, 4]);
        assert_eq!([0, 4].map(|every| looks_every(&train(every), 2, false)), [1, 1]);
    }
}
