//! The training loop.

mod step;

use crate::backprop::Backprop;
use crate::config::RunConfig;
use crate::data::{Dataset, Samples};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::finite;
use crate::flops::Meter;
use crate::metrics::Metrics;
use crate::optim::{Adam, AdamConfig, Ema, Groups};
use crate::parallel::Worker;
use crate::pending::Pending;
use crate::progress::Progress;
use crate::row::Row;
use crate::schedule::Schedule;
use crate::timings::{Phase, Timings};
use crate::trainee::Trainee;
use crate::validate::{Validation, validate};
use burn::module::AutodiffModule;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::Fingerprint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a caller may do while training goes on. Every method does nothing by default; an error ends the training.
pub trait Observer<B: RwkvAutodiffBackend> {
    /// After every step, counted from 1; a GPU may still be at work on it.
    fn after_step(&mut self, _step: usize) {}

    /// A row of metrics is ready.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn on_metrics(&mut self, _metrics: &Metrics) -> Result<()> {
        Ok(())
    }

    /// Something happened that is no row of metrics: in this step, or since the last look at loss and gradient norm
    /// ([`check_every`](crate::config::TrainSection::check_every)).
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
        let check_every = step::looks_every(&train, worker.world(), B::IN_MAIN_MEMORY);
        let mut pending = Pending::new(&train);
        while self.progress.step < train.steps {
            let started = Instant::now();
            let ctx_len = self.config.shape_at(self.progress.step).1;
            let from = match samples.take().filter(|samples| samples.ctx_len() == ctx_len) {
                Some(samples) => samples,
                None if self.dataset.train.ctx_len() == ctx_len => self.dataset.train.clone(),
                None => self.dataset.train.with_ctx_len(ctx_len)?,
            };
            let step = self.progress.step + 1;
            let (validates, mut saves) = (due(train.val_every, step), due(train.save_every, step));
            let logs = due(train.log_every, step) || validates || saves;
            let looks = logs || step.is_multiple_of(check_every);
            B::burst(|| self.train_step(from.as_ref(), looks, &mut pending, worker, observer))?;
            samples = Some(from);
            pending.row.seconds += started.elapsed().as_secs_f64();
            let stops = self.stop_asked(worker)?;
            if stops && !looks {
                // The checkpoint must know what came of every step, this one among them.
                let started = Instant::now();
                let outcomes = pending.look(worker)?;
                self.settle(&outcomes, step, &mut pending, worker, observer)?;
                pending.row.seconds += started.elapsed().as_secs_f64();
            }
            saves |= stops;
            if logs || saves {
                let mut metrics = self.metrics(std::mem::take(&mut pending.row), worker.world());
                if validates {
                    let Validation { loss, score } = self.validate(train.val_windows);
                    if !loss.is_finite() {
                        let (culprit, skipped) = (finite::ALL_FINITE.to_owned(), train.max_skips);
                        let Metrics { lr, grad_norm, .. } = metrics;
                        return Err(Error::Diverged { step, loss, lr, grad_norm, culprit, skipped });
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

    fn metrics(&self, row: Row, world: usize) -> Metrics {
        let step = self.progress.step;
        let tokens = self.config.tokens_before(step, world);
        let of_row = tokens - self.config.tokens_before(step - row.steps, world);
        let meter = Meter::new(
            &self.model().config(),
            self.config.shape_at(step).1,
            self.config.train.peak_flops.map(|peak| peak * world as f64),
        );
        let speed = of_row as f64 / row.seconds;
        row.metrics(&self.progress, tokens, speed, &meter)
    }

    /// Whether any worker was asked to stop.
    fn stop_asked(&self, worker: &mut Worker) -> Result<bool> {
        let own = f64::from(u8::from(self.stop.load(Ordering::Relaxed)));
        Ok(worker.sum(&[own])?[0] > 0.0)
    }
}

/// The optimizer's numbers in a configuration.
pub(crate) fn adam_config(config: &RunConfig) -> AdamConfig {
    let train = &config.train;
    let groups = Groups { layerwise_lr: train.layerwise_lr, stage: train.stage };
    AdamConfig { beta_1: train.beta_1, beta_2: train.beta_2, epsilon: train.epsilon, groups }
}
