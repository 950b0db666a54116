//! Progress, metrics, events and checkpoints of a run while it goes on.

use crate::progress::Display;
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::error::Result;
use rwkv_train::events::Event;
use rwkv_train::metrics::Metrics;
use rwkv_train::parallel::Worker;
use rwkv_train::run_dir::RunDir;
use rwkv_train::tensorboard::EventWriter;
use rwkv_train::trainer::{Observer, Trainer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shows progress, and writes metrics, event files and checkpoints: for the first worker; the others are silent.
pub(super) struct Log {
    first: Option<(Display, EventWriter)>,
    run_dir: RunDir,
    stop: Arc<AtomicBool>,
}

impl Log {
    pub(super) fn new<B: RwkvAutodiffBackend>(
        trainer: &Trainer<B>,
        run_dir: RunDir,
        worker: &Worker,
        dashboard: bool,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        if worker.rank() > 0 {
            return Ok(Self { first: None, run_dir, stop });
        }
        let (steps, done) = (trainer.config().train.steps, trainer.step());
        let display = Display::new(dashboard, steps, done)
            .map_err(|failure| Error::format(run_dir.path(), format!("cannot be shown: {}", failure.0)))?;
        let events = EventWriter::create(run_dir.path(), done)?;
        Ok(Self { first: Some((display, events)), run_dir, stop })
    }

    pub(super) fn finish(self) {
        if let Some((display, _)) = self.first {
            display.finish();
        }
    }
}

impl<B: RwkvAutodiffBackend> Observer<B> for Log {
    fn after_step(&mut self, step: usize) {
        let Some((display, _)) = &mut self.first else { return };
        display.at(step);
        if display.stop_requested() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn on_metrics(&mut self, metrics: &Metrics) -> Result<()> {
        if let Some((display, events)) = &mut self.first {
            display.show(metrics);
            events.write(metrics)?;
        }
        self.run_dir.append(metrics)
    }

    fn on_event(&mut self, event: &Event) -> Result<()> {
        if let Some((display, _)) = &self.first {
            display.say(&event.to_string());
        }
        self.run_dir.append_event(event)
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.run_dir.save(trainer)
    }
}
