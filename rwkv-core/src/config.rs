//! The sizes of a model.

use crate::error::{Error, Result};
use crate::model::{InitRatios, Mixers, Shell};
use serde::{Deserialize, Serialize};

/// Tokens of the GPT-NeoX tokenizer that the Pile and Raven models use.
pub const PILE_VOCAB: usize = 50_277;
/// Tokens of the World models: 65,529 entries, the end-of-text token 0, and unused rows up to 2¹⁶.
pub const WORLD_VOCAB: usize = 65_536;

/// Added to the variance in every layer norm; checkpoints do not store it, so it is the same in every RWKV-4.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// The sizes of an RWKV-4 model, under the official names.
///
/// # Source
/// Reference §1.1 and §2.2; the official `RWKV_CFG`.
///
/// # Example
/// ```
/// use rwkv_core::config::{PILE_VOCAB, RwkvConfig};
/// let config = RwkvConfig::rwkv4_169m(PILE_VOCAB);
/// assert_eq!((config.n_layer, config.n_embd, config.dim_ffn), (12, 768, 3072));
/// assert_eq!(config.num_params(), 169_342_464);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RwkvConfig {
    /// Tokens in the vocabulary, `V`.
    pub vocab_size: usize,
    /// Blocks, `L`.
    pub n_layer: usize,
    /// Width of the residual stream, `C`.
    pub n_embd: usize,
    /// Channels of the time-mix, `A`; `C` in every released model.
    pub dim_att: usize,
    /// Hidden units of the channel-mix, `F`; `4C` in every released model.
    pub dim_ffn: usize,
    /// Half-width of the embedding's uniform initial distribution. The official trainer uses its initial learning rate.
    #[serde(default = "default_emb_scale")]
    pub emb_init_scale: f64,
    /// The numbers in the initial values of RWKV-4's parameters; they matter only before training.
    #[serde(default, skip_serializing_if = "InitRatios::are_official")]
    pub init: InitRatios,
    /// What the model consists of: RWKV-4's parts, unless others take their places for a comparison.
    #[serde(default, skip_serializing_if = "Mixers::are_rwkv4")]
    pub mixers: Mixers,
}

fn default_emb_scale() -> f64 {
    1e-4
}

impl RwkvConfig {
    /// A model with the released models' proportions: `A = C`, `F = 4C`.
    #[must_use]
    pub fn new(vocab_size: usize, n_layer: usize, n_embd: usize) -> Self {
        Self {
            vocab_size,
            n_layer,
            n_embd,
            dim_att: n_embd,
            dim_ffn: 4 * n_embd,
            emb_init_scale: default_emb_scale(),
            init: InitRatios::default(),
            mixers: Mixers::default(),
        }
    }

    /// A Transformer with the blocks of GPT-NeoX and Pythia, to compare with: attention with rotary positions beside an MLP
    /// of `4C` units.
    #[must_use]
    pub fn gpt_neox(vocab_size: usize, n_layer: usize, n_embd: usize, n_head: usize) -> Self {
        Self { mixers: Mixers::gpt_neox(n_head), ..Self::new(vocab_size, n_layer, n_embd) }
    }

    /// The same model with as many units in its channel mixers as bring it nearest to so many parameters.
    ///
    /// # Example
    /// ```
    /// use rwkv_core::config::RwkvConfig;
    /// let rwkv = RwkvConfig::new(65, 4, 128);
    /// let transformer = RwkvConfig::gpt_neox(65, 4, 128, 4).with_params_near(rwkv.num_params());
    /// let difference = transformer.num_params().abs_diff(rwkv.num_params());
    /// assert!(difference < rwkv.num_params() / 500);
    /// ```
    #[must_use]
    pub fn with_params_near(self, params: usize) -> Self {
        let with = |dim_ffn: usize| Self { dim_ffn, ..self.clone() };
        // The count is linear in the units.
        let (one, two) = (with(1).num_params(), with(2).num_params());
        let units = (params.saturating_sub(one) as f64 / (two - one) as f64).round() as usize + 1;
        with(units)
    }

    /// RWKV-4 169M: 12 layers of width 768.
    #[must_use]
    pub fn rwkv4_169m(vocab_size: usize) -> Self {
        Self::new(vocab_size, 12, 768)
    }

    /// RWKV-4 430M: 24 layers of width 1024.
    #[must_use]
    pub fn rwkv4_430m(vocab_size: usize) -> Self {
        Self::new(vocab_size, 24, 1024)
    }

    /// RWKV-4 1.5B: 24 layers of width 2048.
    #[must_use]
    pub fn rwkv4_1b5(vocab_size: usize) -> Self {
        Self::new(vocab_size, 24, 2048)
    }

    /// RWKV-4 3B: 32 layers of width 2560.
    #[must_use]
    pub fn rwkv4_3b(vocab_size: usize) -> Self {
        Self::new(vocab_size, 32, 2560)
    }

    /// RWKV-4 7B: 32 layers of width 4096.
    #[must_use]
    pub fn rwkv4_7b(vocab_size: usize) -> Self {
        Self::new(vocab_size, 32, 4096)
    }

    /// RWKV-4 14B: 40 layers of width 5120.
    #[must_use]
    pub fn rwkv4_14b(vocab_size: usize) -> Self {
        Self::new(vocab_size, 40, 5120)
    }

    /// The number of parameters, by the shapes of reference §2.1: `2VC + L(4AC + 2CF + C² + 2A + 9C) + 4C`, which for
    /// `A = C`, `F = 4C` is the paper's `2VC + 13C²L + C(11L + 4)`. Other mixers count their own.
    ///
    /// Tests hold it against the shapes of the built model, whose weights stay unallocated until first used
    /// ([`Rwkv::num_params_lazy`](crate::model::Rwkv::num_params_lazy)).
    #[must_use]
    pub fn num_params(&self) -> usize {
        let Self { vocab_size: v, n_embd: c, .. } = *self;
        let norms = if self.mixers.shell == Shell::Rwkv4 { 4 * c } else { 2 * c };
        let tables = if self.mixers.tied_head { 1 } else { 2 };
        tables * v * c + self.mixers.blocks_params(self) + norms
    }

    /// Checks that a model of these sizes exists.
    ///
    /// # Errors
    /// [`Error::Config`] for a size of zero, or numbers that are not finite and positive.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("n_layer", self.n_layer),
            ("n_embd", self.n_embd),
            ("dim_att", self.dim_att),
            ("dim_ffn", self.dim_ffn),
        ];
        for (key, size) in sizes {
            if size == 0 {
                return Err(Error::config(key, "a positive number", size));
            }
        }
        self.mixers.validate(self)?;
        self.init.validate()?;
        let scale = self.emb_init_scale;
        if scale.is_finite() && scale > 0.0 {
            return Ok(());
        }
        Err(Error::config("emb_init_scale", "a positive number", scale))
    }
}
