//! A run's folder: what it was, how it went, and where it can go on.
//!
//! ```text
//! config.toml          the run, ready for `--config`
//! run.json             version, commit, backend, command, time
//! tokenizer.json       the vocabulary, where the run knows it
//! metrics.jsonl        a row every few steps
//! events.jsonl         steps left out, spikes of the loss
//! model.safetensors    the newest weights (lora.safetensors, state.safetensors in fine-tuning), average.… beside it
//! step-001000/         a checkpoint: see [`crate::checkpoints`]
//! ```
//!
//! Files and checkpoint folders are made beside their place and renamed, so each is whole or not there.

use crate::checkpoints;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::metrics::{self, Metrics};
use crate::trainer::Trainer;
use rwkv_core::checkpoint::TOKENIZER_FILE;
use rwkv_core::error::Error as CoreError;
use rwkv_core::files::{remove_leftovers, replace_atomic, write_atomic};
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::AnyTokenizer;
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIG_FILE: &str = "config.toml";
const RUN_FILE: &str = "run.json";
const METRICS_FILE: &str = metrics::FILE;
const EVENTS_FILE: &str = "events.jsonl";

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
    pub fn create(
        path: &Path,
        config: &RunConfig,
        tokenizer: Option<&AnyTokenizer>,
        provenance: &Provenance,
    ) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(CoreError::io("create", path))?;
        let run = Self { path: path.to_owned() };
        if path.join(CONFIG_FILE).exists() || run.metrics_file().exists() {
            let problem = "holds a run already; choose another folder, or go on with it by --resume";
            return Err(CoreError::format(path, problem).into());
        }
        let provenance = serde_json::to_string_pretty(provenance)
            .map_err(|error| CoreError::format(path.join(RUN_FILE), error.to_string()))?;
        write_atomic(&path.join(RUN_FILE), provenance.as_bytes())?;
        if let Some(tokenizer) = tokenizer {
            tokenizer.save(&path.join(TOKENIZER_FILE))?;
        }
        // Last: a folder with a configuration is a run that can be resumed.
        write_atomic(&path.join(CONFIG_FILE), config.to_toml().as_bytes())?;
        Ok(run)
    }

    /// A folder that another process made.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Opens the folder of a run that went before, at its newest checkpoint that is whole.
    ///
    /// Checkpoints that are damaged are passed over and named in [`Opened::damaged`]; a run that was ended before its first
    /// one begins again. Rows of metrics after the checkpoint are dropped: the run will write them again.
    ///
    /// # Errors
    /// [`Error::NothingToResume`] for a folder without a run or whose checkpoints are all damaged, or what is wrong with a
    /// file.
    pub fn open(path: &Path) -> Result<Opened> {
        let run_dir = Self { path: path.to_owned() };
        if !path.join(CONFIG_FILE).exists() {
            return Err(Error::NothingToResume(path.to_owned()));
        }
        let config = RunConfig::load(&path.join(CONFIG_FILE))?;
        let tokenizer = path.join(TOKENIZER_FILE);
        let tokenizer = if tokenizer.exists() { Some(AnyTokenizer::load(&tokenizer)?) } else { None };
        let steps = checkpoints::steps(path)?;
        let (mut damaged, mut step) = (Vec::new(), None);
        for &candidate in &steps {
            match checkpoints::verify(&checkpoints::folder(path, candidate)) {
                Ok(()) => {
                    step = Some(candidate);
                    break;
                }
                Err(error) => damaged.push(error.to_string()),
            }
        }
        if step.is_none() && !damaged.is_empty() {
            return Err(Error::NothingToResume(path.to_owned()));
        }
        if let Some(step) = step {
            // A run that was killed after its last checkpoint may have left older weights at the top.
            run_dir.publish(&config, step)?;
        }
        let done = step.unwrap_or(0);
        run_dir.keep_rows(METRICS_FILE, done)?;
        run_dir.keep_rows(EVENTS_FILE, done)?;
        Ok(Opened { run_dir, config, tokenizer, step, damaged })
    }

    /// Drops rows after a step from a file of JSON lines; a torn last line goes, too.
    fn keep_rows(&self, file: &str, step: usize) -> Result<()> {
        let path = self.path.join(file);
        if !path.exists() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path).map_err(CoreError::io("read", &path))?;
        let is_kept = |line: &&str| {
            let row = serde_json::from_str::<serde_json::Value>(line).ok();
            row.and_then(|row| row["step"].as_u64()).is_some_and(|of_row| of_row <= step as u64)
        };
        let kept: String = text.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect();
        Ok(write_atomic(&path, kept.as_bytes())?)
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

    /// Appends an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append_event(&self, event: &Event) -> Result<()> {
        let path = self.path.join(EVENTS_FILE);
        let line = serde_json::to_string(event).map_err(|e| CoreError::format(&path, e.to_string()))? + "\n";
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = file.as_mut().map(|file| file.write_all(line.as_bytes()));
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(CoreError::io("write", &path)(source).into()),
            Err(_) => Err(CoreError::io("write", &path)(file.expect_err("seen just now")).into()),
        }
    }

    /// Writes a checkpoint of the run as it is now, puts what was learnt at the folder's top, and removes checkpoints
    /// beyond the configuration's `keep`.
    ///
    /// # Errors
    /// When it cannot be written; checkpoints that were there stay.
    pub fn save<B: RwkvAutodiffBackend>(&self, trainer: &Trainer<B>) -> Result<()> {
        checkpoints::save(&self.path, trainer)?;
        self.publish(trainer.config(), trainer.step())?;
        Ok(checkpoints::prune(&self.path, trainer.config().train.keep)?)
    }

    /// Puts what was learnt at a step at the folder's top.
    fn publish(&self, config: &RunConfig, step: usize) -> Result<()> {
        let name = checkpoints::trained_file(config);
        let average = (config.train.ema_decay > 0.0).then(|| (checkpoints::AVERAGE_FILE, format!("average.{name}")));
        for (from, to) in [(name, name.to_owned())].into_iter().chain(average) {
            let (from, to) = (checkpoints::folder(&self.path, step).join(from), self.path.join(to));
            // A killed run leaves a copy of the weights behind.
            remove_leftovers(&to)?;
            // The same file under a second name where the file system can: weights are large.
            replace_atomic(&to, |temporary| {
                std::fs::hard_link(&from, temporary)
                    .or_else(|_| std::fs::copy(&from, temporary).map(drop))
                    .map_err(CoreError::io("write", &to))
            })?;
        }
        Ok(())
    }
}

/// A run that can go on.
#[derive(Debug)]
pub struct Opened {
    /// Its folder.
    pub run_dir: RunDir,
    /// Its configuration.
    pub config: RunConfig,
    /// Its tokenizer, if it has one.
    pub tokenizer: Option<AnyTokenizer>,
    /// The newest checkpoint that is whole; none for a run that begins again.
    pub step: Option<usize>,
    /// What is wrong with newer ones.
    pub damaged: Vec<String>,
}
