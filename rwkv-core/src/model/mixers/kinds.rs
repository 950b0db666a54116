//! The choice of mixers, as configuration.

use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::Rule;
use serde::{Deserialize, Serialize};

/// What a model's blocks consist of; RWKV-4's own parts by default.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::{Mixers, SequenceMixerKind};
/// // RWKV-4 with attention in the place of the time-mix, and nothing else changed:
/// let sequence = SequenceMixerKind::Attention { n_head: 4 };
/// let config = RwkvConfig { mixers: Mixers { sequence, ..Mixers::default() }, ..RwkvConfig::new(65, 4, 128) };
/// config.validate()?;
/// assert!(!config.mixers.are_rwkv4());
/// # Ok::<_, rwkv_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixers {
    /// How the parts of a block stand to each other, and what is before and after the blocks.
    pub shell: Shell,
    /// What looks back in time.
    pub sequence: SequenceMixerKind,
    /// What mixes channels.
    pub channel: ChannelMixerKind,
}

/// The order of norms and sums around the mixers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Shell {
    /// A layer norm after the embedding, which starts small; `x ← x + att(ln1(x))`, then `x ← x + ffn(ln2(x))`.
    #[default]
    #[serde(rename = "rwkv-4")]
    Rwkv4,
    /// GPT-NeoX's, as in Pythia: no norm after the embedding; `x ← x + att(ln1(x)) + ffn(ln2(x))`; embedding and head start
    /// from `N(0, 2/(5C))`.
    #[serde(rename = "gpt-neox")]
    GptNeoX,
}

/// What looks back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SequenceMixerKind {
    /// RWKV-4's time-mix.
    #[default]
    #[serde(rename = "rwkv-4")]
    Rwkv4,
    /// Causal attention with rotary positions.
    Attention {
        /// Heads; each has `dim_att/n_head` channels.
        n_head: usize,
    },
}

/// What mixes channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelMixerKind {
    /// RWKV-4's channel-mix.
    #[default]
    #[serde(rename = "rwkv-4")]
    Rwkv4,
    /// Two layers with biases and GELU between them.
    Mlp,
}

impl Mixers {
    /// Pythia's block: GPT-NeoX's shell, attention and MLP.
    #[must_use]
    pub fn gpt_neox(n_head: usize) -> Self {
        Self {
            shell: Shell::GptNeoX,
            sequence: SequenceMixerKind::Attention { n_head },
            channel: ChannelMixerKind::Mlp,
        }
    }

    /// Whether this is RWKV-4 and nothing else.
    #[must_use]
    pub fn are_rwkv4(&self) -> bool {
        *self == Self::default()
    }

    /// Parameters of one block for the sizes of `config`.
    pub(crate) fn block_params(&self, config: &RwkvConfig) -> usize {
        let RwkvConfig { n_embd: c, dim_att: a, dim_ffn: f, .. } = *config;
        let sequence = match self.sequence {
            SequenceMixerKind::Rwkv4 => 4 * a * c + 2 * a + 3 * c,
            SequenceMixerKind::Attention { .. } => 4 * a * c + 3 * a + c,
        };
        let channel = match self.channel {
            ChannelMixerKind::Rwkv4 => 2 * c * f + c * c + 2 * c,
            ChannelMixerKind::Mlp => 2 * c * f + f + c,
        };
        4 * c + sequence + channel
    }

    /// Checks that the sizes of `config` go with these mixers.
    ///
    /// # Errors
    /// [`Error::Config`] for heads that do not divide `dim_att` into even parts.
    pub(crate) fn validate(&self, config: &RwkvConfig) -> Result<()> {
        match self.sequence {
            SequenceMixerKind::Attention { n_head }
                if n_head == 0 || n_head > config.dim_att || !config.dim_att.is_multiple_of(2 * n_head) =>
            {
                let expected = format!("a number of heads that divides dim_att, {}, into even parts", config.dim_att);
                Err(Error::config("n_head", expected, n_head))
            }
            _ => Ok(()),
        }
    }
}

/// `N(0, 2/(5C))`: GPT-NeoX's `small_init`, of matrices that read the stream.
pub(super) fn small_init(config: &RwkvConfig) -> Rule {
    Rule::Normal { std: (2.0 / (5.0 * config.n_embd as f64)).sqrt() }
}

/// `N(0, (2/(L√C))²)`: GPT-NeoX's `wang_init`, of matrices that write to the stream.
pub(super) fn wang_init(config: &RwkvConfig) -> Rule {
    Rule::Normal { std: 2.0 / (config.n_layer as f64 * (config.n_embd as f64).sqrt()) }
}
