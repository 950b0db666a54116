//! A training run as data: one strict file that says all of it.

use crate::error::Result;
use crate::schedule::{Decay, Schedule};
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A whole training run. Every field has a default; an unknown one is an error that names it.
///
/// # Example
/// ```
/// use rwkv_train::config::RunConfig;
/// let config = RunConfig::from_toml("[model]\nn_layer = 2\n[train]\nsteps = 10").unwrap();
/// assert_eq!((config.model.n_layer, config.train.steps), (2, 10));
/// assert!(RunConfig::from_toml("[train]\nstepz = 10").unwrap_err().to_string().contains("stepz"));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// The model's sizes.
    pub model: ModelSection,
    /// The text.
    pub data: DataSection,
    /// The recipe.
    pub train: TrainSection,
}

/// The model's sizes; the vocabulary's is the tokenizer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Channels of the time-mix; `n_embd` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim_att: Option<usize>,
    /// Hidden units of the channel-mix; `4·n_embd` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim_ffn: Option<usize>,
    /// Half-width of the embedding's initial distribution; `lr_init`, as in the official trainer, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emb_init_scale: Option<f64>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { n_layer: 4, n_embd: 128, dim_att: None, dim_ffn: None, emb_init_scale: None }
    }
}

/// Where the tokens come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// The training text, UTF-8.
    pub text: PathBuf,
    /// A held-out text; without one the end of `text` is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_text: Option<PathBuf>,
    /// The share of `text` that is held out.
    pub val_fraction: f64,
    /// `char` or `byte`.
    pub tokenizer: TokenizerKind,
}

impl Default for DataSection {
    fn default() -> Self {
        Self { text: PathBuf::new(), val_text: None, val_fraction: 0.1, tokenizer: TokenizerKind::Char }
    }
}

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// One token per distinct character of the training text.
    Char,
    /// One token per byte.
    Byte,
}

impl std::str::FromStr for TokenizerKind {
    type Err = Error;

    fn from_str(name: &str) -> std::result::Result<Self, Error> {
        match name {
            "char" => Ok(Self::Char),
            "byte" => Ok(Self::Byte),
            other => Err(Error::config("tokenizer", "char or byte", other)),
        }
    }
}

/// The recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Seeds the initial weights and the choice of windows.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Windows per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per step; their gradients are averaged.
    pub accumulate: usize,
    /// Tokens per window.
    pub ctx_len: usize,
    /// Learning rate after the warm-up.
    pub lr_init: f64,
    /// Learning rate at the end.
    pub lr_final: f64,
    /// Steps of warm-up.
    pub warmup_steps: usize,
    /// `exponential`, `cosine` or `linear`.
    pub lr_schedule: Decay,
    /// Adam's β₁.
    pub beta_1: f64,
    /// Adam's β₂.
    pub beta_2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Largest norm of the whole gradient.
    pub grad_clip: f64,
    /// Steps between two rows of metrics.
    pub log_every: usize,
    /// Steps between two validations; 0 validates at the end only.
    pub val_every: usize,
    /// How many held-out windows a validation takes at most.
    pub val_windows: usize,
    /// Steps between two checkpoints; 0 saves at the end only.
    pub save_every: usize,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 2000,
            batch_size: 12,
            accumulate: 1,
            ctx_len: 64,
            lr_init: 1e-3,
            lr_final: 1e-4,
            warmup_steps: 50,
            lr_schedule: Decay::Cosine,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            grad_clip: 1.0,
            log_every: 10,
            val_every: 250,
            val_windows: 1000,
            save_every: 1000,
        }
    }
}

impl RunConfig {
    /// Reads a run from TOML.
    ///
    /// # Errors
    /// A sentence that names the unknown or ill-typed field.
    pub fn from_toml(text: &str) -> std::result::Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // One sentence, with the line itself: the parser's own text draws a picture of it.
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            let number = before.matches('\n').count();
            let line = text.lines().nth(number).unwrap_or_default().trim();
            format!("line {}, `{line}`: {}", number + 1, error.message().trim().replace('\n', ", "))
        })
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

    /// The model's configuration for a vocabulary of this size.
    #[must_use]
    pub fn model_config(&self, vocab_size: usize) -> RwkvConfig {
        let ModelSection { n_layer, n_embd, dim_att, dim_ffn, emb_init_scale } = self.model;
        let mut config = RwkvConfig::new(vocab_size, n_layer, n_embd);
        config.dim_att = dim_att.unwrap_or(config.dim_att);
        config.dim_ffn = dim_ffn.unwrap_or(config.dim_ffn);
        config.emb_init_scale = emb_init_scale.unwrap_or(self.train.lr_init);
        config
    }

    /// The learning-rate schedule.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let TrainSection { lr_init, lr_final, warmup_steps, steps, lr_schedule, .. } = self.train;
        Schedule { lr_init, lr_final, warmup_steps, steps, decay: lr_schedule }
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
        let numbers = [
            ("lr_init", train.lr_init, train.lr_init.is_finite() && train.lr_init > 0.0),
            ("lr_final", train.lr_final, train.lr_final.is_finite() && train.lr_final >= 0.0),
            ("beta_1", train.beta_1, (0.0..1.0).contains(&train.beta_1)),
            ("beta_2", train.beta_2, (0.0..1.0).contains(&train.beta_2)),
            ("epsilon", train.epsilon, train.epsilon > 0.0),
            ("grad_clip", train.grad_clip, train.grad_clip > 0.0),
            ("val_fraction", self.data.val_fraction, self.data.val_fraction > 0.0 && self.data.val_fraction < 1.0),
        ];
        for (key, number, fits) in numbers {
            if !fits {
                let expected = if key.starts_with("beta") || key == "val_fraction" {
                    "a number between 0 and 1"
                } else {
                    "a positive number"
                };
                return Err(Error::config(key, expected, number).into());
            }
        }
        Ok(self.model_config(1).validate()?)
    }
}
