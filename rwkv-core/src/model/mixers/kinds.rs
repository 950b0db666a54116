//! The choice of mixers, as configuration.

use super::{AttentionSettings, ChannelMixerKind, MixerSettings, MlpSettings, SequenceMixerKind};
use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::init::Rule;
use serde::{Deserialize, Serialize};

/// What a model's blocks consist of; RWKV-4's own parts by default.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::{AttentionSettings, Mixers, SequenceMixerKind};
/// // RWKV-4 with attention in the place of the time-mix, and nothing else changed:
/// let sequence = SequenceMixerKind::Attention(AttentionSettings { n_head: 4 });
/// let config = RwkvConfig { mixers: Mixers { sequence, ..Mixers::default() }, ..RwkvConfig::new(65, 4, 128) };
/// config.validate()?;
/// assert!(!config.mixers.are_rwkv4());
/// # Ok::<_, rwkv_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixers {
    /// How the parts of a block stand to each other, and what is before and after the blocks.
    pub shell: Shell,
    /// What looks back in time.
    pub sequence: SequenceMixerKind,
    /// What mixes channels.
    pub channel: ChannelMixerKind,
    /// Whether the head is the embedding's table, transposed; RWKV-4 has a matrix of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tied_head: bool,
}

/// The order of norms and sums around the mixers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Shell {
    /// A layer norm after the embedding, which starts small; `x ← x + att(ln1(x))`, then `x ← x + ffn(ln2(x))`.
    #[default]
    #[serde(rename = "rwkv-4")]
    Rwkv4,
    /// RWKV-4's without the layer norm after the embedding.
    #[serde(rename = "rwkv-4-without-ln0")]
    Rwkv4WithoutLn0,
    /// GPT-NeoX's, as in Pythia: no norm after the embedding; `x ← x + att(ln1(x)) + ffn(ln2(x))`; embedding and head start
    /// from `N(0, 2/(5C))`.
    #[serde(rename = "gpt-neox")]
    GptNeoX,
}

impl Mixers {
    /// Pythia's block: GPT-NeoX's shell, attention and MLP.
    #[must_use]
    pub fn gpt_neox(n_head: usize) -> Self {
        Self {
            shell: Shell::GptNeoX,
            sequence: SequenceMixerKind::Attention(AttentionSettings { n_head }),
            channel: ChannelMixerKind::Mlp(MlpSettings {}),
            tied_head: false,
        }
    }

    /// Whether this is RWKV-4 and nothing else.
    #[must_use]
    pub fn are_rwkv4(&self) -> bool {
        *self == Self::default()
    }

    /// The parameters of the two mixers of a block, by their names in it, and their shapes.
    pub(crate) fn parameters(&self, config: &RwkvConfig) -> Vec<(String, Vec<usize>)> {
        let named = |part: &str, settings: &dyn MixerSettings| {
            let parameters = settings.parameters(config).into_iter();
            parameters.map(|parameter| (format!("{part}.{}", parameter.name), parameter.shape)).collect::<Vec<_>>()
        };
        [named("att", self.sequence.settings()), named("ffn", self.channel.settings())].concat()
    }

    /// Parameters of one block for the sizes of `config`.
    pub(crate) fn block_params(&self, config: &RwkvConfig) -> usize {
        let of_mixers = self.parameters(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
        4 * config.n_embd + of_mixers
    }

    /// Checks that the sizes of `config` go with these mixers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) that names the key.
    pub(crate) fn validate(&self, config: &RwkvConfig) -> Result<()> {
        self.sequence.settings().validate(config)?;
        self.channel.settings().validate(config)
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
