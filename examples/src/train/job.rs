//! Runs that an experiment needs: each is trained to its end, unless it is there already.

use super::source::Source;
use super::{How, Plan, stop_on_signals, take_sizes, work};
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

    /// The flag that ends the run at hand with a checkpoint once it is up.
    pub(crate) fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Trains the run in this folder to its end: its rows of metrics.
    pub(crate) fn finish<B: RwkvAutodiffBackend>(
        &self,
        config: &RunConfig,
        folder: &Path,
        device: &B::Device,
    ) -> Result<Vec<Metrics>, Failure> {
        let plan = if folder.join("config.toml").exists() {
            check(config, folder)?;
            Plan::resume(folder)?
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

/// Refuses a folder that holds a run of another configuration.
pub(crate) fn check(config: &RunConfig, folder: &Path) -> Result<(), Failure> {
    let file = folder.join("config.toml");
    if file.exists() {
        // A run that goes on from a checkpoint has its sizes.
        let mut wanted = config.clone();
        take_sizes(&mut wanted, 0)?;
        if RunConfig::load(&file)? != wanted {
            let folder = folder.display();
            let problem = "holds a run of another configuration; choose another folder, or remove it";
            return Err(Failure(format!("{folder} {problem}")));
        }
    }
    Ok(())
}

/// The rows of metrics of the run in this folder, if it has come to its last step.
pub(crate) fn finished(config: &RunConfig, folder: &Path) -> Result<Option<Vec<Metrics>>, Failure> {
    let steps = config.train.steps;
    if !folder.join("config.toml").exists() || checkpoints::steps(folder)?.first() != Some(&steps) {
        return Ok(None);
    }
    let rows = RunDir::at(folder).metrics()?;
    Ok(rows.last().is_some_and(|row| row.step == steps && row.val_loss.is_some()).then_some(rows))
}

/// The vocabulary of the data that a configuration names, whose files it opens.
pub(crate) fn vocab_size(config: &RunConfig) -> Result<usize, Failure> {
    let of_data = Source::open(config, None)?.vocab_size;
    let mut config = config.clone();
    take_sizes(&mut config, of_data)?;
    Ok(config.model.vocab_size.unwrap_or(of_data))
}
