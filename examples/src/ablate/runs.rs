//! The runs of a study, and what their folders say.

use super::study::Designed;
use crate::Failure;
use crate::train::vocab_size;
use rwkv_core::checkpoint::TOKENIZER_FILE;
use rwkv_core::config::RwkvConfig;
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use rwkv_eval::ablation::{Curve, Row, Status};
use rwkv_train::config::RunConfig;
use rwkv_train::metrics::Metrics;
use std::path::PathBuf;

/// How far a count may be from the baseline's before it is worth a note.
const TOLERANCE: f64 = 0.01;

/// A run to be.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub name: String,
    pub variant: String,
    pub config: RunConfig,
    pub folder: PathBuf,
}

impl Run {
    /// A row without results.
    fn row(&self, status: Status) -> Row {
        let (seed, steps) = (self.config.train.seed, self.config.train.steps);
        Row { status, steps, ..Row::new(&self.variant, seed) }
    }

    pub(super) fn pending(&self) -> Row {
        self.row(Status::Pending)
    }

    pub(super) fn failed(&self, sentence: String) -> Row {
        let params = self.model().ok().map(|model| model.num_params());
        Row { error: Some(sentence), params, ..self.row(Status::Failed) }
    }

    /// The row and the curve of a run that is done.
    pub(super) fn done(&self, metrics: &[Metrics]) -> Result<(Row, Curve), Failure> {
        let Some(last) = metrics.last() else {
            return Err(Failure(format!("{} has no metrics", self.folder.display())));
        };
        let model = self.model()?;
        let points: Vec<(usize, f64)> = metrics.iter().filter_map(|row| Some((row.step, row.val_loss?))).collect();
        let (mut before, mut training) = (0, 0.0);
        for row in metrics {
            training += (row.tokens - before) as f64 / row.tokens_per_second;
            before = row.tokens;
        }
        let row = Row {
            params: Some(model.num_params()),
            state_bytes: Some(state_bytes(&model, self.config.train.ctx_len)),
            tokens: last.tokens,
            val_loss: last.val_loss,
            best_val_loss: points.iter().map(|point| point.1).min_by(f64::total_cmp),
            val_accuracy: last.val_accuracy,
            val_exact: last.val_exact,
            seconds: last.seconds,
            tokens_per_second: (training > 0.0).then(|| last.tokens as f64 / training),
            ..self.row(Status::Done)
        };
        Ok((row, Curve { variant: self.variant.clone(), seed: self.config.train.seed, points }))
    }

    /// The model's sizes.
    fn model(&self) -> Result<RwkvConfig, Failure> {
        // What the run wrote has the sizes of a checkpoint that it went on from.
        let config = RunConfig::load(&self.folder.join("config.toml"))?;
        let tokenizer = self.folder.join(TOKENIZER_FILE);
        let vocab_size = match config.model.vocab_size {
            Some(size) => size,
            None if tokenizer.exists() => AnyTokenizer::load(&tokenizer)?.vocab_size(),
            None => vocab_size(&config)?,
        };
        Ok(config.model_config(vocab_size))
    }
}

/// Bytes of one sequence's state after a window: `4·L·(2C + memory)`.
fn state_bytes(model: &RwkvConfig, ctx_len: usize) -> usize {
    let numbers = (0..model.n_layer).map(|layer| {
        let memory = model.mixers.memory(model, layer);
        let rows = if memory.grows { ctx_len } else { memory.rows.len() };
        2 * model.n_embd + rows * memory.columns
    });
    size_of::<f32>() * numbers.sum::<usize>()
}

/// One run for every variant and seed, with folders named after them.
pub(super) fn runs(variants: &[Designed], seeds: &[u64], folder: &std::path::Path) -> Result<Vec<Run>, Failure> {
    let mut names: Vec<(String, &str)> = Vec::new();
    let mut runs = Vec::new();
    for variant in variants {
        let safe = safe_name(&variant.name)?;
        // Some file systems take A and a for the same.
        let lower = safe.to_lowercase();
        if let Some((_, other)) = names.iter().find(|(taken, _)| *taken == lower) {
            let own = &variant.name;
            return Err(Failure(format!(
                "the variants `{other}` and `{own}` would share the folder {safe}; rename one"
            )));
        }
        names.push((lower, &variant.name));
        for &seed in seeds {
            let mut config = variant.config.clone();
            config.train.seed = seed;
            let name = format!("{safe}-seed{seed}");
            let folder = folder.join(&name);
            runs.push(Run { name, variant: variant.name.clone(), config, folder });
        }
    }
    Ok(runs)
}

/// A name that every file system takes.
fn safe_name(name: &str) -> Result<String, Failure> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    let name: String = name.trim().chars().map(safe).collect();
    if name.is_empty() || name.len() > 100 {
        return Err(Failure(format!("`{name}` is no name for a variant: expected 1 to 100 characters")));
    }
    Ok(name.strip_prefix('.').map_or(name.clone(), |rest| format!("_{rest}")))
}

/// Gives every variant as many units in its channel mixers as bring it nearest to the baseline's parameters: what there is to
/// say about those that do not come within one percent.
pub(super) fn equal_params(variants: &mut [Designed], baseline: &str) -> Result<Vec<String>, Failure> {
    let model = |config: &RunConfig| Ok::<_, Failure>(config.model_config(vocab_size(config)?));
    let target = match variants.iter().find(|variant| variant.name == baseline) {
        Some(variant) => model(&variant.config)?.num_params(),
        None => return Ok(Vec::new()),
    };
    let mut notes = Vec::new();
    for variant in variants.iter_mut().filter(|variant| variant.name != baseline) {
        let own = model(&variant.config)?;
        let more = RwkvConfig { dim_ffn: own.dim_ffn + 1, ..own.clone() };
        // A checkpoint's sizes are what they are, and some channel mixers have no units.
        let fixed = variant.config.model.start_from.is_some() || more.num_params() == own.num_params();
        let found = if fixed || own.num_params() == target { own } else { own.with_params_near(target) };
        let usual = variant.config.model_config(1).dim_ffn;
        if found.dim_ffn != usual {
            variant.config.model.dim_ffn = Some(found.dim_ffn);
            variant.config.validate().map_err(|error| Failure(format!("variant `{}`: {error}", variant.name)))?;
        }
        let off = found.num_params() as f64 / target as f64 - 1.0;
        if off.abs() > TOLERANCE {
            let name = &variant.name;
            notes.push(format!(
                "{name} has {:+.1} % parameters: dim_ffn brings it no nearer to the baseline.",
                100.0 * off
            ));
        }
    }
    Ok(notes)
}
