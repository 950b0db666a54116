//! Checkpoints of a run: written beside, synced and renamed, with a sum of every file; read back only if whole.
//!
//! ```text
//! step-001000/
//!   model.safetensors      the weights, or lora.safetensors, or state.safetensors
//!   average.safetensors    the moving average, where there is one
//!   optimizer.safetensors  Adam's moments
//!   progress.json          how far the run had come
//!   checksums.json         length and XXH3 of each of them
//! ```

use crate::config::{RunConfig, TuneMethod};
use crate::data::Dataset;
use crate::error::Result;
use crate::optim::Adam;
use crate::progress::Progress;
use crate::trainee::Trainee;
use crate::trainer::{Trainer, adam_config};
use burn::module::AutodiffModule;
use burn::tensor::backend::Backend;
use rwkv_core::checkpoint::{self, MODEL_FILE};
use rwkv_core::error::{Error, Result as CoreResult};
use rwkv_core::files::{sync_folder, write_atomic};
use rwkv_core::model::{Lora, Rwkv};
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::{Fingerprint, InitialState, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The trained adapters.
pub const LORA_FILE: &str = "lora.safetensors";
/// The tuned state.
pub const STATE_FILE: &str = "state.safetensors";
pub(crate) const AVERAGE_FILE: &str = "average.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const PROGRESS_FILE: &str = "progress.json";
const SUMS_FILE: &str = "checksums.json";
const PREFIX: &str = "step-";

/// The file of what learns.
#[must_use]
pub fn trained_file(config: &RunConfig) -> &'static str {
    match config.tune.method {
        TuneMethod::Full => MODEL_FILE,
        TuneMethod::Lora => LORA_FILE,
        TuneMethod::State => STATE_FILE,
    }
}

/// The steps of the checkpoints in a folder, the newest first.
///
/// # Errors
/// [`Error::Io`].
pub fn steps(run: &Path) -> CoreResult<Vec<usize>> {
    let entries = std::fs::read_dir(run).map_err(Error::io("read", run))?;
    let step = |name: std::ffi::OsString| name.to_str()?.strip_prefix(PREFIX)?.parse::<usize>().ok();
    let mut steps: Vec<usize> = entries.filter_map(|entry| step(entry.ok()?.file_name())).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// The folder of a checkpoint.
#[must_use]
pub fn folder(run: &Path, step: usize) -> PathBuf {
    run.join(format!("{PREFIX}{step:06}"))
}

/// Writes the checkpoint of a run as it is now.
///
/// # Errors
/// When it cannot be written; those that were there stay.
pub fn save<B: RwkvAutodiffBackend>(run: &Path, trainer: &Trainer<B>) -> Result<()> {
    let step = trainer.step();
    let target = folder(run, step);
    let partial = run.join(format!(".partial-{PREFIX}{step:06}"));
    remove(&partial)?;
    std::fs::create_dir_all(&partial).map_err(Error::io("create", &partial))?;
    let written = write(&partial, trainer);
    if let Err(error) = written {
        // On a full disk the space is better given back.
        let _ = std::fs::remove_dir_all(&partial);
        return Err(error);
    }
    remove(&target)?;
    std::fs::rename(&partial, &target).map_err(Error::io("write", &target))?;
    Ok(sync_folder(run)?)
}

fn write<B: RwkvAutodiffBackend>(to: &Path, trainer: &Trainer<B>) -> Result<()> {
    save_trained(&trainer.trainee().valid(), trainer.base(), &to.join(trained_file(trainer.config())))?;
    if let Some(average) = trainer.average() {
        save_trained(average, trainer.base(), &to.join(AVERAGE_FILE))?;
    }
    trainer.optimizer().save(&to.join(OPTIMIZER_FILE))?;
    trainer.progress().save(&to.join(PROGRESS_FILE))?;
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(to).map_err(Error::io("read", to))? {
        let entry = entry.map_err(Error::io("read", to))?;
        sums.insert(entry.file_name().to_string_lossy().into_owned(), sum(&entry.path())?);
    }
    let path = to.join(SUMS_FILE);
    let json = serde_json::to_string_pretty(&sums).map_err(|error| Error::format(&path, error.to_string()))?;
    write_atomic(&path, json.as_bytes())?;
    Ok(sync_folder(to)?)
}

/// Writes what was learnt: weights, adapters or a state.
///
/// # Errors
/// When it cannot be written.
pub fn save_trained<B: Backend>(trainee: &Trainee<B>, base: Option<&Fingerprint>, path: &Path) -> Result<()> {
    match (base, &trainee.initial_state, trainee.model.lora()) {
        (Some(base), Some(initial), _) => initial.state(1).save(path, base)?,
        (Some(base), None, Some(lora)) => lora.save(path, base)?,
        _ => checkpoint::save(&trainee.model, path)?,
    }
    Ok(())
}

/// Checks that every file of a checkpoint is there, and is what was written.
///
/// # Errors
/// What is wrong, naming the file.
pub fn verify(checkpoint: &Path) -> CoreResult<()> {
    let path = checkpoint.join(SUMS_FILE);
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let sums: BTreeMap<String, Sum> = serde_json::from_str(&text)
        .map_err(|error| Error::format(&path, format!("is no list of checksums: {error}")))?;
    for (name, expected) in sums {
        let path = checkpoint.join(name);
        let found = sum(&path)?;
        if found != expected {
            return Err(Error::format(&path, "is damaged: it is not what was written"));
        }
    }
    Ok(())
}

/// Removes all but the newest `keep` checkpoints; none where `keep` is 0.
///
/// # Errors
/// When one cannot be removed.
pub fn prune(run: &Path, keep: usize) -> CoreResult<()> {
    let steps = steps(run)?;
    steps.iter().skip(if keep == 0 { steps.len() } else { keep }).try_for_each(|&step| remove(&folder(run, step)))
}

/// A trainer as it was at the checkpoint of `step`. `model` is what the run began with: of tuned adapters and states the
/// checkpoint holds nothing else.
///
/// # Errors
/// When the checkpoint cannot be read.
pub fn restore<B: RwkvAutodiffBackend>(
    run: &Path,
    step: usize,
    config: RunConfig,
    dataset: Dataset,
    model: impl FnOnce() -> Result<Rwkv<B>>,
    device: B::Device,
) -> Result<Trainer<B>> {
    let from = folder(run, step);
    let file = from.join(trained_file(&config));
    let full = config.tune.method == TuneMethod::Full;
    let first = if full { checkpoint::load::<B>(&file, &device)? } else { model()? };
    let trainer = Trainer::<B>::new(config, dataset, first.clone(), device.clone())?;
    let learnt = load_trained::<B>(first.clone(), trainer.base(), trainer.config(), &file, &device)?;
    let adam = Adam::new(adam_config(trainer.config()), learnt.named_parameters());
    let optimizer = adam.load(&from.join(OPTIMIZER_FILE), &device)?;
    let average = match trainer.config().train.ema_decay > 0.0 {
        true => {
            let file = from.join(AVERAGE_FILE);
            let first = if full { checkpoint::load::<B>(&file, &device)? } else { first };
            Some(load_trained::<B>(first, trainer.base(), trainer.config(), &file, &device)?.valid())
        }
        false => None,
    };
    let progress = Progress::load(&from.join(PROGRESS_FILE))?;
    Ok(trainer.resume_at(progress, learnt, optimizer, average))
}

fn load_trained<B: RwkvAutodiffBackend>(
    model: Rwkv<B>,
    base: Option<&Fingerprint>,
    config: &RunConfig,
    path: &Path,
    device: &B::Device,
) -> Result<Trainee<B>> {
    Ok(match (base, config.tune.method) {
        (Some(base), TuneMethod::Lora) => {
            Trainee { model: model.with_lora(&Lora::load(path, base)?)?, initial_state: None }
        }
        (Some(base), TuneMethod::State) => {
            let state = State::<B>::load(path, base, device)?;
            Trainee { model: model.frozen(), initial_state: Some(InitialState::from_state(&state)) }
        }
        _ => Trainee { model, initial_state: None },
    })
}

/// A file's length and XXH3.
type Sum = (u64, String);

fn sum(path: &Path) -> CoreResult<Sum> {
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let length = std::io::copy(&mut file, &mut hash).map_err(Error::io("read", path))?;
    Ok((length, format!("{:016x}", hash.digest())))
}

fn remove(folder: &Path) -> CoreResult<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}
