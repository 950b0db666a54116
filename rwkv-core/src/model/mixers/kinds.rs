//! The choice of mixers, as configuration.

use super::mixer::Memory;
use super::{
    AttentionSettings, ChannelMixerKind, MixerSettings, MlpSettings, SequenceMixerKind, TinyAttentionSettings,
};
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
    /// RWKV-4a's tiny attention after one block; RWKV-4 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiny_attention: Option<TinyAttentionSettings>,
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
            tiny_attention: None,
        }
    }

    /// Whether this is RWKV-4 and nothing else.
    #[must_use]
    pub fn are_rwkv4(&self) -> bool {
        *self == Self::default()
    }

    /// The parameters of what mixes in the block of this number, by their names in it, and their shapes.
    pub(crate) fn parameters(&self, config: &RwkvConfig, layer: usize) -> Vec<(String, Vec<usize>)> {
        let tiny = self.tiny_attention_at(layer).map(|tiny| tiny.parameters(config));
        [self.parameters_everywhere(config), tiny.unwrap_or_default()].concat()
    }

    /// Those that every block has.
    fn parameters_everywhere(&self, config: &RwkvConfig) -> Vec<(String, Vec<usize>)> {
        let named = |part: &str, settings: &dyn MixerSettings| {
            let parameters = settings.parameters(config).into_iter();
            parameters.map(|parameter| (format!("{part}.{}", parameter.name), parameter.shape)).collect::<Vec<_>>()
        };
        [named("att", self.sequence.settings()), named("ffn", self.channel.settings())].concat()
    }

    /// RWKV-4a's tiny attention, if it stands after this block.
    #[must_use]
    pub fn tiny_attention_at(&self, layer: usize) -> Option<TinyAttentionSettings> {
        self.tiny_attention.filter(|tiny| tiny.layer == layer)
    }

    /// Parameters of all blocks for the sizes of `config`.
    pub(crate) fn blocks_params(&self, config: &RwkvConfig) -> usize {
        let of_mixers = self.parameters_everywhere(config);
        let of_mixers = of_mixers.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
        let of_tiny_attention = self.tiny_attention.map_or(0, |tiny| tiny.num_params(config));
        config.n_layer * (4 * config.n_embd + of_mixers) + of_tiny_attention
    }

    /// Multiplications with additions of all blocks for one token of a sequence of `ctx_len`; see
    /// [`MixerSettings::multiply_adds`].
    #[must_use]
    pub fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        let of_mixers = [self.sequence.settings(), self.channel.settings()];
        let of_block = of_mixers.map(|settings| settings.multiply_adds(config, ctx_len)).iter().sum::<f64>();
        config.n_layer as f64 * of_block + self.tiny_attention.map_or(0.0, |tiny| tiny.multiply_adds(config))
    }

    /// What the block of this number remembers of a sequence before any token: its sequence mixer's memory, and below it the
    /// rows of a tiny attention.
    #[must_use]
    pub fn memory(&self, config: &RwkvConfig, layer: usize) -> Memory {
        let mut memory = self.sequence.settings().memory(config);
        if let Some(tiny) = self.tiny_attention_at(layer) {
            memory.rows.resize(memory.rows.len() + tiny.size, 0.0);
        }
        memory
    }

    /// Checks that the sizes of `config` go with these mixers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) that names the key.
    pub(crate) fn validate(&self, config: &RwkvConfig) -> Result<()> {
        self.sequence.settings().validate(config)?;
        self.channel.settings().validate(config)?;
        match self.tiny_attention {
            None => Ok(()),
            Some(tiny) => tiny.validate(config, &self.sequence.settings().memory(config)),
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
