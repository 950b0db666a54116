//! Runs that an experiment needs: each is trained to its end, unless it is there already.

use super::{How, Plan, stop_on_signals, work};
use crate::{Backend, Failure};
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::metrics::Metrics;
use rwkv_train::parallel::{self, Worker};
use rwkv_train::run_dir::RunDir;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Trains runs one after the other. What was done before is not done again, and what was interrupted goes on.
pub(crate) struct Jobs {
    backend: Backend,
    stop: Arc<AtomicBool>,
}

impl Jobs {
    /// Ctrl-C ends the run at hand with a checkpoint.
    pub(crate) fn new(backend: Backend) -> Result<Self, Failure> {
        Ok(Self { backend, stop: stop_on_signals()? })
    }

    /// Trains the run in this folder to its end: its rows of metrics.
    pub(crate) fn finish<B: RwkvAutodiffBackend>(
        &self,
        config: &RunConfig,
        folder: &Path,
        device: &B::Device,
    ) -> Result<Vec<Metrics>, Failure> {
        let plan = if folder.join("config.toml").exists() {
            let plan = Plan::resume(folder)?;
            if plan.config != *config {
                let folder = folder.display();
                return Err(Failure(format!(
                    "{folder} holds a run of another configuration; choose another folder, or remove it"
                )));
            }
            plan
        } else {
            Plan::create(config.clone(), folder, self.backend, 0)?
        };
        if plan.step != Some(config.train.steps) {
            let devices = [device.clone()];
            let one =
                |worker: &mut Worker| work::<B>(&How::default(), &plan, worker, &devices, &self.stop, Instant::now());
            let workers = parallel::workers::<B>(&devices, None, parallel::PATIENCE)?;
            parallel::run(workers, one)?;
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure("stopped; the same command goes on from here".into()));
        }
        let steps = checkpoints::steps(folder)?;
        // One checkpoint is enough of a run that is done.
        if steps.len() > 1 {
            checkpoints::prune(folder, 1)?;
        }
        Ok(RunDir::at(folder).metrics()?)
    }
}
