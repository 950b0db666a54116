//! The training loop.

use crate::config::RunConfig;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::optim::{GroupedAdam, clip_global_norm};
use crate::schedule::Schedule;
use crate::timings::{Phase, Timings};
use crate::validate::validation_loss;
use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use rwkv_core::loss::{training_loss, value};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use std::time::Instant;

/// What a caller may do while training goes on. Every method does nothing by default; an error ends the training.
pub trait Observer<B: RwkvAutodiffBackend> {
    /// After every step, counted from 1.
    fn after_step(&mut self, _step: usize) {}

    /// A row of metrics is ready.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn on_metrics(&mut self, _metrics: &Metrics) -> Result<()> {
        Ok(())
    }

    /// A checkpoint is due.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn on_checkpoint(&mut self, _trainer: &Trainer<B>) -> Result<()> {
        Ok(())
    }
}

impl<B: RwkvAutodiffBackend> Observer<B> for () {}

/// A training run: model, optimizer, data and how far it has come.
pub struct Trainer<B: RwkvAutodiffBackend> {
    config: RunConfig,
    dataset: Dataset,
    schedule: Schedule,
    model: Option<Rwkv<B>>, // `None` only while the optimizer has it
    optimizer: GroupedAdam<B>,
    step: usize,
    timings: Timings,
    device: B::Device,
}

impl<B: RwkvAutodiffBackend> Trainer<B> {
    /// A run from its first step.
    ///
    /// # Errors
    /// When [`RunConfig::validate`] refuses the configuration.
    pub fn new(config: RunConfig, dataset: Dataset, model: Rwkv<B>, device: B::Device) -> Result<Self> {
        config.validate()?;
        let train = &config.train;
        let optimizer = GroupedAdam::new(&model, train.beta_1, train.beta_2, train.epsilon);
        let (schedule, timings) = (config.schedule(), Timings::default());
        Ok(Self { config, dataset, schedule, model: Some(model), optimizer, step: 0, timings, device })
    }

    /// The same run, `step` steps later, with the optimizer's state of that time.
    #[must_use]
    pub fn resume_at(mut self, step: usize, optimizer: GroupedAdam<B>) -> Self {
        self.step = step;
        self.optimizer = optimizer;
        self
    }

    /// The model as it is now.
    ///
    /// # Panics
    /// Never: the model is away only inside [`Self::run`].
    pub fn model(&self) -> &Rwkv<B> {
        self.model.as_ref().expect("the model is away only while the optimizer steps")
    }

    /// The optimizer as it is now.
    pub fn optimizer(&self) -> &GroupedAdam<B> {
        &self.optimizer
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Where the time went.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Has every phase of a step wait for the device, so that [`Self::timings`] tell the phases apart on a GPU too.
    #[must_use]
    pub fn with_exact_timings(mut self) -> Self {
        self.timings = Timings::waiting_for_device();
        self
    }

    /// The loss on the held-out text, in nats per token, over at most `limit` windows.
    pub fn validate(&mut self, limit: usize) -> f64 {
        let started = Instant::now();
        let loss = validation_loss(&self.model().valid(), self.dataset.val.as_ref(), limit, &self.device);
        self.timings.add(Phase::Validation, started);
        loss
    }

    /// Trains to the last step.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss is no number, and what the observer returns.
    pub fn run(&mut self, observer: &mut dyn Observer<B>) -> Result<()> {
        let train = self.config.train.clone();
        let due = |every: usize, step: usize| step == train.steps || (every > 0 && step.is_multiple_of(every));
        let tokens_per_step = train.batch_size * train.accumulate * train.ctx_len;
        let mut row = Row::default();
        while self.step < train.steps {
            let started = Instant::now();
            let (loss, grad_norm, lr) = self.train_step();
            row.add(loss);
            let logs = due(train.log_every, self.step);
            let validates = due(train.val_every, self.step);
            let saves = due(train.save_every, self.step);
            // Before a checkpoint, too: no weights are saved that cannot go on.
            let metrics = if logs || validates || saves {
                // Reading the loss waits for the device, so the clock stops after it.
                let loss = row.mean();
                let grad_norm = value(grad_norm);
                if !loss.is_finite() || !grad_norm.is_finite() {
                    return Err(Error::Diverged { step: self.step, loss, lr, grad_norm });
                }
                row.seconds += started.elapsed().as_secs_f64();
                let tokens_per_second = (row.steps * tokens_per_step) as f64 / row.seconds;
                row = Row::default();
                Some(Metrics { step: self.step, loss, val_loss: None, tokens_per_second, lr, grad_norm })
            } else {
                row.seconds += started.elapsed().as_secs_f64();
                None
            };
            if let Some(mut metrics) = metrics {
                if validates {
                    let val_loss = self.validate(train.val_windows);
                    if !val_loss.is_finite() {
                        let (loss, grad_norm) = (val_loss, metrics.grad_norm);
                        return Err(Error::Diverged { step: self.step, loss, lr, grad_norm });
                    }
                    metrics.val_loss = Some(val_loss);
                }
                observer.on_metrics(&metrics)?;
            }
            if saves {
                let started = Instant::now();
                observer.on_checkpoint(self)?;
                self.timings.add(Phase::Checkpoint, started);
            }
            observer.after_step(self.step);
        }
        Ok(())
    }

    /// One optimizer step: the mean loss over its micro-batches, the gradient's norm and the learning rate.
    fn train_step(&mut self) -> (Tensor<B::InnerBackend, 1>, Tensor<B::InnerBackend, 1>, f64) {
        let train = &self.config.train;
        let model = self.model.take().expect("the model is away only while the optimizer steps");
        let mut accumulator = GradientsAccumulator::new();
        let mut loss_sum: Option<Tensor<B::InnerBackend, 1>> = None;
        let mut grads = GradientsParams::new();
        for micro in 0..train.accumulate {
            let started = Instant::now();
            let index = (self.step * train.accumulate + micro) as u64;
            let batch = self.dataset.train.batch(index * train.batch_size as u64, train.batch_size);
            let (inputs, targets) = batch.tensors::<B>(&self.device);
            self.timings.end::<B>(Phase::Data, started, &self.device);

            let started = Instant::now();
            let (logits, _) = model.forward(inputs, model.zero_state(train.batch_size));
            let loss = training_loss(logits, targets).div_scalar(train.accumulate as f64);
            let of_micro = loss.clone().inner();
            loss_sum = Some(match loss_sum {
                None => of_micro,
                Some(sum) => sum + of_micro,
            });
            self.timings.end::<B>(Phase::Forward, started, &self.device);

            let started = Instant::now();
            grads = GradientsParams::from_grads(loss.backward(), &model);
            if train.accumulate > 1 {
                accumulator.accumulate(&model, std::mem::take(&mut grads));
            }
            self.timings.end::<B>(Phase::Backward, started, &self.device);
        }
        let started = Instant::now();
        if train.accumulate > 1 {
            grads = accumulator.grads();
        }
        let lr = self.schedule.lr(self.step);
        let grad_norm = clip_global_norm(&model, &mut grads, train.grad_clip, &self.device);
        self.model = Some(self.optimizer.step(lr, model, grads));
        self.timings.end::<B>(Phase::Optimizer, started, &self.device);
        self.step += 1;
        (loss_sum.expect("accumulate is positive, validated"), grad_norm, lr)
    }
}

/// The steps since the last row of metrics.
struct Row<B: burn::tensor::backend::Backend> {
    loss: Option<Tensor<B, 1>>,
    steps: usize,
    seconds: f64,
}

impl<B: burn::tensor::backend::Backend> Default for Row<B> {
    fn default() -> Self {
        Self { loss: None, steps: 0, seconds: 0.0 }
    }
}

impl<B: burn::tensor::backend::Backend> Row<B> {
    fn add(&mut self, loss: Tensor<B, 1>) {
        self.loss = Some(match self.loss.take() {
            None => loss,
            Some(sum) => sum + loss,
        });
        self.steps += 1;
    }

    fn mean(&mut self) -> f64 {
        self.loss.take().map_or(f64::NAN, |sum| value(sum) / self.steps as f64)
    }
}
