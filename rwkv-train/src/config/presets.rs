//! The published models' recipes.

use super::RunConfig;
use super::choices::Precision;
use crate::data::Order;
use crate::schedule::Decay;
use rwkv_core::config::{PILE_VOCAB, RwkvConfig};
use rwkv_core::error::{Error, Result};

/// Samples of a mini-epoch, the official trainer's unit of progress.
pub const MINI_EPOCH: usize = 40_320;
/// Mini-epochs in one pass over the Pile at 1024 tokens.
const PILE_MINI_EPOCHS: usize = 8_043;
/// Samples of 1024 tokens per optimizer step.
const SAMPLES_PER_STEP: usize = 128;

/// A row of the paper's table.
struct Recipe {
    name: &'static str,
    sizes: fn(usize) -> RwkvConfig,
    lr_init: f64,
    lr_final: f64,
    constant_mini_epochs: usize,
}

/// # Source
/// Paper, second version, table 3; reference §4.3.
const RECIPES: [Recipe; 6] = [
    recipe("rwkv4-169m", RwkvConfig::rwkv4_169m, 6e-4, 1e-5, 361),
    recipe("rwkv4-430m", RwkvConfig::rwkv4_430m, 4e-4, 1e-5, 411),
    recipe("rwkv4-1b5", RwkvConfig::rwkv4_1b5, 3e-4, 1e-5, 443),
    recipe("rwkv4-3b", RwkvConfig::rwkv4_3b, 1.5e-4, 1e-5, 451),
    recipe("rwkv4-7b", RwkvConfig::rwkv4_7b, 1.5e-4, 1e-5, 465),
    recipe("rwkv4-14b", RwkvConfig::rwkv4_14b, 1e-4, 7e-6, 544),
];

const fn recipe(
    name: &'static str,
    sizes: fn(usize) -> RwkvConfig,
    lr_init: f64,
    lr_final: f64,
    constant_mini_epochs: usize,
) -> Recipe {
    Recipe { name, sizes, lr_init, lr_final, constant_mini_epochs }
}

impl RunConfig {
    /// The names that [`Self::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|recipe| recipe.name)
    }

    /// The recipe of a published model: one pass over the Pile at 1024 tokens, 128 samples a step, the paper's learning
    /// rates, `bf16`, no weight decay, no dropout. The released models switched between 128 and 256 samples.
    ///
    /// # Errors
    /// [`Error::Config`] for another name.
    ///
    /// # Example
    /// ```
    /// use rwkv_train::config::RunConfig;
    /// let config = RunConfig::preset("rwkv4-169m")?;
    /// assert_eq!((config.model.n_layer, config.model.n_embd, config.train.lr_init), (12, 768, 6e-4));
    /// assert_eq!(config.train.constant_steps, 361 * 315);
    /// # Ok::<_, rwkv_core::error::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self> {
        let recipe = RECIPES.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
            Error::config("preset", format!("one of {}", Self::presets().collect::<Vec<_>>().join(", ")), name)
        })?;
        let sizes = (recipe.sizes)(PILE_VOCAB);
        let steps_per_mini_epoch = MINI_EPOCH / SAMPLES_PER_STEP;
        let mut config = Self::default();
        (config.model.n_layer, config.model.n_embd) = (sizes.n_layer, sizes.n_embd);
        config.model.vocab_size = Some(sizes.vocab_size);
        config.data.order = Order::MagicPrime;
        let train = &mut config.train;
        (train.ctx_len, train.batch_size, train.accumulate) = (1024, 8, SAMPLES_PER_STEP / 8);
        (train.lr_init, train.lr_final, train.warmup_steps) = (recipe.lr_init, recipe.lr_final, 0);
        train.lr_schedule = Decay::Exponential;
        train.constant_steps = recipe.constant_mini_epochs * steps_per_mini_epoch;
        train.steps = PILE_MINI_EPOCHS * steps_per_mini_epoch;
        train.precision = Precision::Bf16;
        train.save_every = steps_per_mini_epoch;
        train.val_every = steps_per_mini_epoch;
        train.keep = 3;
        Ok(config)
    }
}
