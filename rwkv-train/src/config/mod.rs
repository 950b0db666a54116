//! A training run as data: one strict file that says all of it.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`RunConfig`]: reading, writing, checking |
//! | `sections.rs` | its sections, key by key |
//! | `choices.rs` | keys whose values are words |
//! | `presets.rs` | the published models' recipes |
//! | `keys.rs` | the nearest valid name for an unknown key |

mod choices;
mod keys;
mod presets;
mod sections;

pub use choices::{Bptt, Precision, Stage, TokenizerKind, TuneMethod};
pub use keys::explain;
pub use presets::MINI_EPOCH;
pub use sections::{DataSection, Extension, ModelSection, TrainSection, TuneSection};

use crate::error::Result;
use crate::schedule::Schedule;
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::Error;
use rwkv_core::model::LoraConfig;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A whole training run. Every key has a default; an unknown one is an error that names it, and the one that was meant.
///
/// With `preset = "NAME"` at the top the defaults are those of a published recipe: [`RunConfig::preset`].
///
/// # Example
/// ```
/// use rwkv_train::config::RunConfig;
/// let config = RunConfig::from_toml("[model]\nn_layer = 2\n[train]\nsteps = 10").unwrap();
/// assert_eq!((config.model.n_layer, config.train.steps), (2, 10));
/// let error = RunConfig::from_toml("[train]\nstepz = 10").unwrap_err();
/// assert!(error.to_string().ends_with("did you mean `steps`?"));
/// let small = RunConfig::from_toml("preset = \"rwkv4-169m\"\n[train]\nsteps = 10").unwrap();
/// assert_eq!((small.model.n_embd, small.train.steps), (768, 10));
/// let mixers = "mixers = { shell = \"gpt-neox\", sequence = { attention = { n_head = 4 } }, channel = \"mlp\" }";
/// let transformer = RunConfig::from_toml(&format!("[model]\n{mixers}")).unwrap();
/// assert_eq!(transformer.model.mixers, rwkv_core::model::Mixers::gpt_neox(4));
/// assert_eq!(RunConfig::from_toml(&transformer.to_toml()).unwrap(), transformer);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// The model.
    pub model: ModelSection,
    /// The text.
    pub data: DataSection,
    /// The recipe.
    pub train: TrainSection,
    /// What of the model learns.
    pub tune: TuneSection,
}

impl RunConfig {
    /// Reads a run from TOML.
    ///
    /// # Errors
    /// A sentence that names the unknown or ill-typed field.
    pub fn from_toml(text: &str) -> std::result::Result<Self, String> {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| explain(text, &error))?;
        let Some(preset) = table.remove("preset") else {
            return toml::from_str(text).map_err(|error| explain(text, &error));
        };
        let name = preset.as_str().ok_or("preset is no name")?;
        let base = Self::preset(name).map_err(|error| error.to_string())?;
        // The file alone must be right before it is laid over the preset, so that errors know their line.
        let without = text.lines().map(|line| if line.trim_start().starts_with("preset") { "" } else { line });
        let without = without.collect::<Vec<_>>().join("\n");
        let _: Self = toml::from_str(&without).map_err(|error| explain(text, &error))?;
        let mut whole = toml::Table::try_from(base).map_err(|error| error.to_string())?;
        for (section, keys) in table {
            match (whole.get_mut(&section), keys) {
                (Some(toml::Value::Table(whole)), toml::Value::Table(keys)) => whole.extend(keys),
                (_, keys) => drop(whole.insert(section, keys)),
            }
        }
        whole.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// Reads a run from a TOML file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(Self::from_toml(&text)
            .map_err(|problem| Error::format(path, format!("is no run configuration: {problem}")))?)
    }

    /// The run as TOML, which [`Self::from_toml`] reads back.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain fields have a TOML form")
    }

    /// The model's configuration; `needed` is the vocabulary of the tokenizer or the data.
    #[must_use]
    pub fn model_config(&self, needed: usize) -> RwkvConfig {
        let model = &self.model;
        let mut config = RwkvConfig::new(model.vocab_size.unwrap_or(needed), model.n_layer, model.n_embd);
        config.dim_att = model.dim_att.unwrap_or(config.dim_att);
        config.dim_ffn = model.dim_ffn.unwrap_or(config.dim_ffn);
        config.init = model.init;
        config.mixers = model.mixers;
        config.emb_init_scale = model.emb_init_scale.unwrap_or(self.train.lr_init);
        config
    }

    /// The learning-rate schedule.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let train = &self.train;
        Schedule {
            lr_init: train.lr_init,
            lr_final: train.lr_final,
            warmup_steps: train.warmup_steps,
            constant_steps: train.constant_steps,
            decay_steps: train.decay_steps.unwrap_or(train.steps.div_ceil(10)),
            steps: train.steps,
            decay: train.lr_schedule,
        }
    }

    /// The adapters of `method = "lora"`.
    #[must_use]
    pub fn lora(&self) -> LoraConfig {
        let TuneSection { lora_rank: rank, lora_alpha: alpha, ref lora_targets, .. } = self.tune;
        LoraConfig { rank, alpha, targets: lora_targets.clone() }
    }

    /// Samples per micro-batch and tokens per sample at a step, counted from 0.
    #[must_use]
    pub fn shape_at(&self, step: usize) -> (usize, usize) {
        let mut shape = (self.train.batch_size, self.train.ctx_len);
        for extension in self.train.extend.iter().filter(|extension| extension.step <= step) {
            shape = (extension.batch_size.unwrap_or(shape.0), extension.ctx_len);
        }
        shape
    }

    /// Samples that one worker of `workers` has taken before a step, times the workers: the number of the step's first one.
    #[must_use]
    pub fn samples_before(&self, step: usize, workers: usize) -> u64 {
        let changes = self.train.extend.iter().map(|extension| extension.step).filter(|&change| change < step);
        let bounds: Vec<usize> = [0].into_iter().chain(changes).chain([step]).collect();
        let samples = |bounds: &[usize]| (bounds[1].saturating_sub(bounds[0]) * self.shape_at(bounds[0]).0) as u64;
        bounds.windows(2).map(samples).sum::<u64>() * (self.train.accumulate * workers) as u64
    }

    /// Tokens that `workers` have trained on before a step.
    #[must_use]
    pub fn tokens_before(&self, step: usize, workers: usize) -> u64 {
        let changes = self.train.extend.iter().map(|extension| extension.step).filter(|&change| change < step);
        let bounds: Vec<usize> = [0].into_iter().chain(changes).chain([step]).collect();
        let tokens = |bounds: &[usize]| {
            let (batch_size, ctx_len) = self.shape_at(bounds[0]);
            bounds[1].saturating_sub(bounds[0]) as u64 * (batch_size * ctx_len) as u64
        };
        bounds.windows(2).map(tokens).sum::<u64>() * (self.train.accumulate * workers) as u64
    }

    /// Weight decay at a step, counted from 0: `weight_decay·(final/weight_decay)^progress` (reference §4.2).
    #[must_use]
    pub fn weight_decay(&self, step: usize) -> f64 {
        let TrainSection { weight_decay, weight_decay_final, steps, .. } = self.train;
        match weight_decay_final {
            Some(last) if weight_decay > 0.0 => {
                weight_decay * (last / weight_decay).powf((step as f64 + 1.0) / steps as f64)
            }
            _ => weight_decay,
        }
    }

    /// Checks what a type cannot.
    ///
    /// # Errors
    /// [`Error::Config`] that names the field.
    pub fn validate(&self) -> Result<()> {
        let train = &self.train;
        let sizes = [
            ("steps", train.steps),
            ("batch_size", train.batch_size),
            ("accumulate", train.accumulate),
            ("ctx_len", train.ctx_len),
            ("log_every", train.log_every),
            ("val_windows", train.val_windows),
        ];
        for (key, size) in sizes {
            if size == 0 {
                return Err(Error::config(key, "a positive number", size).into());
            }
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let between = "a number between 0 and 1";
        let zero_or_more = "a number that is not negative";
        let numbers = [
            ("lr_init", train.lr_init, positive(train.lr_init), "a positive number"),
            ("lr_final", train.lr_final, not_negative(train.lr_final), zero_or_more),
            ("beta_1", train.beta_1, share(train.beta_1), between),
            ("beta_2", train.beta_2, share(train.beta_2), between),
            ("epsilon", train.epsilon, positive(train.epsilon), "a positive number"),
            ("weight_decay", train.weight_decay, not_negative(train.weight_decay), zero_or_more),
            ("l2_wrap", train.l2_wrap, not_negative(train.l2_wrap), zero_or_more),
            ("dropout", train.dropout, share(train.dropout), between),
            ("ema_decay", train.ema_decay, share(train.ema_decay), between),
            ("grad_clip", train.grad_clip, positive(train.grad_clip), "a positive number"),
            ("spike_factor", train.spike_factor, not_negative(train.spike_factor), zero_or_more),
            ("val_fraction", self.data.val_fraction, share(self.data.val_fraction), between),
        ];
        for (key, number, fits, expected) in numbers {
            if !fits {
                return Err(Error::config(key, expected, number).into());
            }
        }
        if self.data.val_fraction == 0.0 {
            return Err(Error::config("val_fraction", between, 0).into());
        }
        if let Some(last) = train.weight_decay_final.filter(|last| !positive(*last)) {
            return Err(Error::config("weight_decay_final", "a positive number", last).into());
        }
        if let Some(peak) = train.peak_flops.filter(|peak| !positive(*peak)) {
            return Err(Error::config("peak_flops", "a positive number", peak).into());
        }
        let mut before = 0;
        for extension in &train.extend {
            if extension.step <= before || extension.ctx_len == 0 || extension.batch_size == Some(0) {
                let found = format!("step {}, ctx_len {}", extension.step, extension.ctx_len);
                return Err(Error::config("extend", "rising steps above 0, and positive sizes", found).into());
            }
            before = extension.step;
        }
        if let Some(task) = &self.data.task {
            let extensions = train.extend.iter().map(|extension| extension.ctx_len);
            [train.ctx_len].into_iter().chain(extensions).try_for_each(|ctx_len| task.validate(ctx_len))?;
        }
        self.lora().validate()?;
        Ok(self.model_config(1).validate()?)
    }
}
