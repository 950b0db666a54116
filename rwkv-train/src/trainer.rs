//! The training loop.

use crate::backprop::{self, Backprop};
use crate::config::RunConfig;
use crate::data::{Batch, Dataset, Samples};
use crate::error::{Error, Result};
use crate::events::{Event, Spikes};
use crate::finite;
use crate::flops::Meter;
use crate::metrics::Metrics;
use crate::optim::{Adam, AdamConfig, Ema, Groups, Update, clip_factor, global_norm};
use crate::parallel::Worker;
use crate::progress::Progress;
use crate::row::{Outcome, Row};
use crate::schedule::Schedule;
use crate::timings::{Phase, Timings};
use crate::trainee::Trainee;
use crate::validate::{Validation, validate};
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::Fingerprint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

    /// Something happened that is no row of metrics.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn on_event(&mut self, _event: &Event) -> Result<()> {
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

/// How [`Trainer::run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With the last step.
    Finished,
    /// On request, after a checkpoint.
    Stopped,
}

/// A training run: what learns, optimizer, data and how far it has come.
pub struct Trainer<B: RwkvAutodiffBackend> {
    config: RunConfig,
    dataset: Dataset,
    schedule: Schedule,
    backprop: Backprop,
    base: Option<Fingerprint>,
    trainee: Option<Trainee<B>>, // `None` only while the optimizer has it
    optimizer: Adam<B>,
    ema: Option<Ema<B, Trainee<B>>>,
    progress: Progress,
    stop: Arc<AtomicBool>,
    timings: Timings,
    device: B::Device,
}

impl<B: RwkvAutodiffBackend> Trainer<B> {
    /// A run from its first step, of a model that learns as the configuration's `[tune]` says.
    ///
    /// # Errors
    /// When [`RunConfig::validate`] refuses the configuration, or the adapters do not fit the model.
    pub fn new(config: RunConfig, dataset: Dataset, model: Rwkv<B>, device: B::Device) -> Result<Self> {
        config.validate()?;
        // Adapters and states belong to the weights under them.
        let base = (config.tune.method != crate::config::TuneMethod::Full).then(|| model.fingerprint());
        let trainee = Trainee::new(model, &config)?;
        let optimizer = Adam::new(adam_config(&config), trainee.named_parameters());
        let decay = config.train.ema_decay;
        let ema = (decay > 0.0).then(|| Ema::new(decay, trainee.valid()));
        Ok(Self {
            schedule: config.schedule(),
            backprop: Backprop::new(&config),
            config,
            dataset,
            base,
            trainee: Some(trainee),
            optimizer,
            ema,
            progress: Progress::default(),
            stop: Arc::default(),
            timings: Timings::default(),
            device,
        })
    }

    /// The same run later: with what it had learnt, its optimizer's state and its average then.
    #[must_use]
    pub fn resume_at(
        mut self,
        progress: Progress,
        trainee: Trainee<B>,
        optimizer: Adam<B>,
        average: Option<Trainee<B::InnerBackend>>,
    ) -> Self {
        if let Some(average) = average {
            self.ema = Some(Ema::new(self.config.train.ema_decay, average));
        }
        self.trainee = Some(trainee);
        self.optimizer = optimizer;
        self.progress = progress;
        self
    }

    /// Ends the run after the step at hand, with a checkpoint, once the flag is up.
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Has every phase of a step wait for the device, so that [`Self::timings`] tell the phases apart on a GPU too.
    #[must_use]
    pub fn with_exact_timings(mut self) -> Self {
        self.timings = Timings::waiting_for_device();
        self
    }

    /// What learns, as it is now.
    ///
    /// # Panics
    /// Never: it is away only inside [`Self::run`].
    pub fn trainee(&self) -> &Trainee<B> {
        self.trainee.as_ref().expect("the trainee is away only while the optimizer steps")
    }

    /// The model as it is now.
    pub fn model(&self) -> &Rwkv<B> {
        &self.trainee().model
    }

    /// The average of the weights, where there is one.
    pub fn average(&self) -> Option<&Trainee<B::InnerBackend>> {
        self.ema.as_ref().map(Ema::average)
    }

    /// The weights under adapters, or for which a state is tuned.
    pub fn base(&self) -> Option<&Fingerprint> {
        self.base.as_ref()
    }

    /// The optimizer as it is now.
    pub fn optimizer(&self) -> &Adam<B> {
        &self.optimizer
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// How far the run has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.progress.step
    }

    /// Where the time went.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// The loss on the held-out data, and how many answers are right where it has some, over at most `limit` samples.
    pub fn validate(&mut self, limit: usize) -> Validation {
        let started = Instant::now();
        let validation = validate(&self.trainee().valid(), self.dataset.val.as_ref(), limit, &self.device);
        self.timings.add(Phase::Validation, started);
        validation
    }

    /// Trains to the last step, or until it is asked to stop.
    ///
    /// # Errors
    /// [`Error::Diverged`] when too many losses or gradients in a row are no numbers, and what the observer returns.
    pub fn run(&mut self, observer: &mut dyn Observer<B>) -> Result<Ended> {
        self.run_as(&mut Worker::alone(), observer)
    }

    /// [`Self::run`] as one of several workers, each with a trainer of its own, from the same seed or checkpoint. The first
    /// one's observer sees metrics, events and checkpoints.
    ///
    /// # Errors
    /// As [`Self::run`], and [`Error::Parallel`] when another worker is lost; the trainer is then as it was after the last
    /// step, good for a checkpoint.
    pub fn run_as(&mut self, worker: &mut Worker, observer: &mut dyn Observer<B>) -> Result<Ended> {
        let train = self.config.train.clone();
        let due = |every: usize, step: usize| step == train.steps || (every > 0 && step.is_multiple_of(every));
        let mut samples: Option<Arc<dyn Samples>> = None;
        let spikes = Spikes::new(train.spike_factor);
        let mut row = Row::default();
        while self.progress.step < train.steps {
            let started = Instant::now();
            let ctx_len = self.config.shape_at(self.progress.step).1;
            let from = match samples.take().filter(|samples| samples.ctx_len() == ctx_len) {
                Some(samples) => samples,
                None if self.dataset.train.ctx_len() == ctx_len => self.dataset.train.clone(),
                None => self.dataset.train.with_ctx_len(ctx_len)?,
            };
            let outcome = B::burst(|| self.train_step(from.as_ref(), worker, observer))?;
            samples = Some(from);
            if let Some(event) = outcome.loss.and_then(|loss| spikes.look(&mut self.progress, loss)) {
                tell(worker, observer, &event)?;
            }
            row.add(&outcome, started.elapsed().as_secs_f64());
            let step = self.progress.step;
            let (validates, mut saves) = (due(train.val_every, step), due(train.save_every, step));
            let stops = self.stop_asked(worker)?;
            saves |= stops;
            if due(train.log_every, step) || validates || saves {
                let mut metrics = self.metrics(std::mem::take(&mut row), outcome.lr, worker.world());
                if validates {
                    let Validation { loss, score } = self.validate(train.val_windows);
                    if !loss.is_finite() {
                        return Err(self.diverged(loss, &outcome, finite::ALL_FINITE.to_owned()));
                    }
                    metrics.val_loss = Some(loss);
                    metrics.val_accuracy = score.map(|score| score.accuracy());
                    metrics.val_exact = score.map(|score| score.exact_match());
                }
                metrics.seconds = Some(self.progress.seconds + started.elapsed().as_secs_f64());
                if worker.rank() == 0 {
                    observer.on_metrics(&metrics)?;
                }
            }
            // A checkpoint remembers the time before it; what it takes itself counts for the rows after it.
            self.progress.seconds += started.elapsed().as_secs_f64();
            if saves && worker.rank() == 0 {
                let started = Instant::now();
                observer.on_checkpoint(self)?;
                self.timings.add(Phase::Checkpoint, started);
                self.progress.seconds += started.elapsed().as_secs_f64();
            }
            observer.after_step(step);
            if stops && step < train.steps {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Finished)
    }

    fn metrics(&self, row: Row, lr: f64, world: usize) -> Metrics {
        let step = self.progress.step;
        let tokens = self.config.tokens_before(step, world);
        let of_row = tokens - self.config.tokens_before(step - row.steps, world);
        let meter = Meter::new(
            &self.model().config(),
            self.config.shape_at(step).1,
            self.config.train.peak_flops.map(|peak| peak * world as f64),
        );
        let speed = of_row as f64 / row.seconds;
        row.metrics(&self.progress, lr, tokens, speed, &meter)
    }

    /// Whether any worker was asked to stop.
    fn stop_asked(&self, worker: &mut Worker) -> Result<bool> {
        let own = f64::from(u8::from(self.stop.load(Ordering::Relaxed)));
        Ok(worker.sum(&[own])?[0] > 0.0)
    }

    /// One step of the schedule: an update, or none if loss or gradient are no numbers.
    fn train_step(
        &mut self,
        samples: &dyn Samples,
        worker: &mut Worker,
        observer: &mut dyn Observer<B>,
    ) -> Result<Outcome> {
        let (step, train) = (self.progress.step, self.config.train.clone());
        let started = Instant::now();
        let batches = self.batches(samples, worker);
        let weight: f64 = batches.iter().map(|(_, batch)| batch.weight()).sum();
        let weight = worker.sum(&[weight])?[0];
        self.timings.end::<B>(Phase::Data, started, &self.device);
        let lr = self.schedule.lr(step);

        let started = Instant::now();
        let trainee = self.trainee.take().expect("the trainee is away only while the optimizer steps");
        let mut grads = GradientsParams::new();
        let mut loss: Option<Tensor<B::InnerBackend, 1>> = None;
        for (first, batch) in &batches {
            let samples = *first..first + batch.size() as u64;
            // A step whose targets all weigh nothing learns nothing.
            let scale = if weight > 0.0 { 1.0 / weight } else { 0.0 };
            let (of_batch, more) = self.backprop.gradients(&trainee, batch, samples, scale);
            backprop::add(&trainee, &mut grads, more);
            loss = Some(match loss {
                None => of_batch,
                Some(sum) => sum + of_batch,
            });
        }
        self.timings.end::<B>(Phase::Backprop, started, &self.device);

        let started = Instant::now();
        let loss = loss.expect("accumulate is positive, validated");
        let reduced = worker.sum_gradients(&trainee, grads).and_then(|grads| {
            let norm = global_norm(&trainee, &grads, &self.device).cast(loss.dtype());
            // Both at once: for them a step waits for the device, and for nothing else if it works alone.
            let numbers: Vec<f64> = Tensor::cat(vec![loss, norm], 0).into_data().iter().collect();
            Ok((grads, worker.sum(&numbers[..1])?[0], numbers[1]))
        });
        let (grads, loss, grad_norm) = match reduced {
            Ok(reduced) => reduced,
            Err(error) => {
                // The weights are those of the step before, whole: good for a checkpoint.
                self.trainee = Some(trainee);
                return Err(error.into());
            }
        };
        self.progress.step += 1;
        if loss.is_finite() && grad_norm.is_finite() {
            let (weight_decay, clip) = (self.config.weight_decay(step), clip_factor(grad_norm, train.grad_clip));
            let trainee = self.optimizer.step(Update { lr, weight_decay, clip }, trainee, grads);
            self.ema = self.ema.take().map(|ema| ema.update(&trainee));
            self.trainee = Some(trainee);
            self.progress.skipped = 0;
            self.timings.end::<B>(Phase::Optimizer, started, &self.device);
            return Ok(Outcome { loss: Some(loss), grad_norm, lr });
        }
        let culprit = finite::first_bad(&trainee, &grads, batches.first().map(|(_, batch)| batch));
        self.trainee = Some(trainee);
        self.progress.skipped += 1;
        let outcome = Outcome { loss: None, grad_norm, lr };
        if self.progress.skipped > train.max_skips {
            return Err(self.diverged(loss, &outcome, culprit));
        }
        let event = Event::Skipped { step: self.progress.step, loss, grad_norm, lr, culprit };
        tell(worker, observer, &event)?;
        Ok(outcome)
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

    fn diverged(&self, loss: f64, outcome: &Outcome, culprit: String) -> Error {
        let Outcome { grad_norm, lr, .. } = *outcome;
        Error::Diverged { step: self.progress.step, loss, lr, grad_norm, culprit, skipped: self.config.train.max_skips }
    }
}

fn tell<B: RwkvAutodiffBackend>(worker: &Worker, observer: &mut dyn Observer<B>, event: &Event) -> Result<()> {
    if worker.rank() == 0 { observer.on_event(event) } else { Ok(()) }
}

/// The optimizer's numbers in a configuration.
pub(crate) fn adam_config(config: &RunConfig) -> AdamConfig {
    let train = &config.train;
    let groups = Groups { layerwise_lr: train.layerwise_lr, stage: train.stage };
    AdamConfig { beta_1: train.beta_1, beta_2: train.beta_2, epsilon: train.epsilon, groups }
}
