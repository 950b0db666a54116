//! A run's folder: what it was, how it went, and where it can go on.
//!
//! ```text
//! config.toml          the run, ready for `--config`
//! run.json             version, commit, backend, command
//! tokenizer.json       the vocabulary
//! metrics.jsonl        a row every few steps
//! model.safetensors    the newest weights
//! step-001000/         a checkpoint: model.safetensors, the optimizer's files
//! ```
//!
//! Files and checkpoint folders are made beside their place and renamed, so each is whole or not there.

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::metrics::{self, Metrics};
use crate::optim::GroupedAdam;
use crate::trainer::Trainer;
use burn::module::AutodiffModule;
use rwkv_core::checkpoint::{self, MODEL_FILE, TOKENIZER_FILE};
use rwkv_core::error::Error as CoreError;
use rwkv_core::files::write_atomic;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::tokenizer::AnyTokenizer;
use serde::Serialize;
use std::path::{Path, PathBuf};

const CONFIG_FILE: &str = "config.toml";
const RUN_FILE: &str = "run.json";
const METRICS_FILE: &str = "metrics.jsonl";

/// Where a run comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// The library's version.
    pub version: &'static str,
    /// The commit of the checkout that the program ran in, with `+` when files were changed; nothing outside one.
    pub commit: Option<String>,
    /// The backend's name.
    pub backend: String,
    /// The command line.
    pub command: Vec<String>,
}

impl Provenance {
    /// Of this process, on this backend.
    #[must_use]
    pub fn of_this_process(backend: &str) -> Self {
        let git = |args: &[&str]| {
            let output = std::process::Command::new("git").args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"]).map(|commit| {
            let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|status| status.is_empty());
            if clean { commit } else { commit + "+" }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit,
            backend: backend.to_owned(),
            command: std::env::args().collect(),
        }
    }
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// When it cannot be made, or holds the metrics of another run already.
    pub fn create(path: &Path, config: &RunConfig, tokenizer: &AnyTokenizer, provenance: &Provenance) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(CoreError::io("create", path))?;
        let run = Self { path: path.to_owned() };
        if run.metrics_file().exists() {
            let problem = "holds a run already; choose another folder, or go on with it by --resume";
            return Err(CoreError::format(path, problem).into());
        }
        write_atomic(&path.join(CONFIG_FILE), config.to_toml().as_bytes())?;
        let provenance = serde_json::to_string_pretty(provenance)
            .map_err(|error| CoreError::format(path.join(RUN_FILE), error.to_string()))?;
        write_atomic(&path.join(RUN_FILE), provenance.as_bytes())?;
        tokenizer.save(&path.join(TOKENIZER_FILE))?;
        Ok(run)
    }

    /// Opens the folder of a run that went before: its configuration, its tokenizer and its newest checkpoint's step.
    ///
    /// Rows of metrics after that checkpoint are dropped: the run will write them again.
    ///
    /// # Errors
    /// [`Error::NothingToResume`], or what is wrong with a file.
    pub fn open(path: &Path) -> Result<(Self, RunConfig, AnyTokenizer, usize)> {
        let run = Self { path: path.to_owned() };
        let config = RunConfig::load(&path.join(CONFIG_FILE))?;
        let tokenizer = AnyTokenizer::load(&path.join(TOKENIZER_FILE))?;
        let step = run.newest_checkpoint()?.ok_or_else(|| Error::NothingToResume(path.to_owned()))?;
        let mut rows = String::new();
        for row in run.metrics()?.iter().filter(|row| row.step <= step) {
            rows += &serde_json::to_string(row).map_err(|e| CoreError::format(run.metrics_file(), e.to_string()))?;
            rows.push('\n');
        }
        write_atomic(&run.metrics_file(), rows.as_bytes())?;
        Ok((run, config, tokenizer, step))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn metrics_file(&self) -> PathBuf {
        self.path.join(METRICS_FILE)
    }

    /// Appends a row of metrics.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, row: &Metrics) -> Result<()> {
        Ok(metrics::append(&self.metrics_file(), row)?)
    }

    /// All rows of metrics.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn metrics(&self) -> Result<Vec<Metrics>> {
        Ok(metrics::read(&self.metrics_file())?)
    }

    /// Writes a checkpoint of the run as it is now.
    ///
    /// # Errors
    /// When it cannot be written; checkpoints that were there stay.
    pub fn save<B: RwkvAutodiffBackend>(&self, trainer: &Trainer<B>) -> Result<()> {
        let target = self.checkpoint(trainer.step());
        let partial = self.path.join(format!(".partial-step-{:06}", trainer.step()));
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(CoreError::io("remove", &partial))?;
        }
        std::fs::create_dir_all(&partial).map_err(CoreError::io("create", &partial))?;
        let model = trainer.model().valid();
        checkpoint::save(&model, &partial.join(MODEL_FILE))?;
        trainer.optimizer().save(&partial)?;
        if target.exists() {
            std::fs::remove_dir_all(&target).map_err(CoreError::io("remove", &target))?;
        }
        std::fs::rename(&partial, &target).map_err(CoreError::io("write", &target))?;
        Ok(checkpoint::save(&model, &self.path.join(MODEL_FILE))?)
    }

    /// A trainer as it was at the checkpoint of `step`.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn restore<B: RwkvAutodiffBackend>(
        &self,
        step: usize,
        config: RunConfig,
        dataset: crate::data::Dataset,
        device: B::Device,
    ) -> Result<Trainer<B>> {
        let folder = self.checkpoint(step);
        let model = checkpoint::load::<B>(&folder.join(MODEL_FILE), &device)?;
        let trainer = Trainer::<B>::new(config, dataset, model, device.clone())?;
        let adam = &trainer.config().train;
        let optimizer =
            GroupedAdam::new(trainer.model(), adam.beta_1, adam.beta_2, adam.epsilon).load(&folder, &device)?;
        Ok(trainer.resume_at(step, optimizer))
    }

    fn checkpoint(&self, step: usize) -> PathBuf {
        self.path.join(format!("step-{step:06}"))
    }

    fn newest_checkpoint(&self) -> Result<Option<usize>> {
        let entries = std::fs::read_dir(&self.path).map_err(CoreError::io("read", &self.path))?;
        let step = |name: std::ffi::OsString| name.to_str()?.strip_prefix("step-")?.parse::<usize>().ok();
        Ok(entries.filter_map(|entry| step(entry.ok()?.file_name())).max())
    }
}
