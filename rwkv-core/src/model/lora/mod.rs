//! LoRA: small matrices beside frozen ones, which train in their place.
//!
//! ```text
//! y = x·W + (alpha/rank)·(x·A)·B        A: [in, rank],  B: [rank, out]
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`LoraConfig`]: which matrices, and how many numbers for each |
//! | `adapters.rs` | adapters in a model: added, taken out, merged |
//! | `file.rs` | [`Lora`]: adapters as a value, and on disk |
//!
//! # Source
//! Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), §4, and the authors' `loralib`.

mod adapters;
mod file;

pub use file::Lora;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Which matrices get an adapter, and of what size.
///
/// # Example
/// ```
/// use rwkv_core::model::{LoraConfig, LoraTarget};
/// let config: LoraConfig = serde_json::from_str(r#"{"rank": 4, "targets": ["att.key", "ffn.value"]}"#).unwrap();
/// assert_eq!((config.rank, config.alpha, config.scale()), (4, 16.0, 4.0));
/// assert_eq!(config.targets, [LoraTarget::AttKey, LoraTarget::FfnValue]);
/// let unknown = serde_json::from_str::<LoraConfig>(r#"{"targets": ["att.query"]}"#).unwrap_err().to_string();
/// assert!(unknown.contains("att.query") && unknown.contains("att.receptance"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// The inner size of every adapter, `r`.
    pub rank: usize,
    /// The adapters' outputs are multiplied by `alpha/rank`.
    pub alpha: f64,
    /// The matrices that get an adapter, those of a block in every block.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraConfig {
    /// Rank 8, alpha 16, all matrices of the blocks.
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: LoraTarget::BLOCK.to_vec() }
    }
}

impl LoraConfig {
    /// What the adapters' outputs are multiplied by, `alpha/rank`.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Checks what a type cannot.
    ///
    /// # Errors
    /// [`Error::Config`] for a rank of zero, an alpha that is no positive number, no target, or one that is named twice.
    pub fn validate(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::config("lora_rank", "a positive number", 0));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::config("lora_alpha", "a positive number", self.alpha));
        }
        if self.targets.is_empty() {
            return Err(Error::config("lora_targets", format!("some of {}", LoraTarget::names()), "none"));
        }
        match self.targets.iter().enumerate().find(|(i, target)| self.targets[..*i].contains(target)) {
            None => Ok(()),
            Some((_, target)) => Err(Error::config("lora_targets", "each at most once", target.name().to_owned())),
        }
    }
}

/// A kind of matrix that may get an adapter, under its official name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LoraTarget {
    /// The time-mix's `W_k`.
    #[serde(rename = "att.key")]
    AttKey,
    /// The time-mix's `W_v`.
    #[serde(rename = "att.value")]
    AttValue,
    /// The time-mix's `W_r`.
    #[serde(rename = "att.receptance")]
    AttReceptance,
    /// The time-mix's `W_o`.
    #[serde(rename = "att.output")]
    AttOutput,
    /// The channel-mix's `W_k`.
    #[serde(rename = "ffn.key")]
    FfnKey,
    /// The channel-mix's `W_r`.
    #[serde(rename = "ffn.receptance")]
    FfnReceptance,
    /// The channel-mix's `W_v`.
    #[serde(rename = "ffn.value")]
    FfnValue,
    /// The matrix from the last block to the logits.
    #[serde(rename = "head")]
    Head,
}

impl LoraTarget {
    /// The matrices of a block.
    pub const BLOCK: [Self; 7] = [
        Self::AttKey,
        Self::AttValue,
        Self::AttReceptance,
        Self::AttOutput,
        Self::FfnKey,
        Self::FfnReceptance,
        Self::FfnValue,
    ];
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AttKey,
        Self::AttValue,
        Self::AttReceptance,
        Self::AttOutput,
        Self::FfnKey,
        Self::FfnReceptance,
        Self::FfnValue,
        Self::Head,
    ];

    /// The official name within a block, or in the model for the head.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttKey => "att.key",
            Self::AttValue => "att.value",
            Self::AttReceptance => "att.receptance",
            Self::AttOutput => "att.output",
            Self::FfnKey => "ffn.key",
            Self::FfnReceptance => "ffn.receptance",
            Self::FfnValue => "ffn.value",
            Self::Head => "head",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether the matrix of this official name, without `.weight`, is one of these.
    fn is(self, matrix: &str) -> bool {
        let local = matrix.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        local.map_or(matrix, |(_, local)| local) == self.name()
    }
}

impl FromStr for LoraTarget {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|target| target.name() == name)
            .ok_or_else(|| Error::config("lora_targets", format!("one of {}", Self::names()), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_text_and_back() {
        for target in LoraTarget::ALL {
            assert_eq!(target.name().parse::<LoraTarget>().expect("its own name"), target);
            assert_eq!(serde_json::to_string(&target).expect("a name"), format!("{:?}", target.name()));
        }
        let said = "att.query".parse::<LoraTarget>().expect_err("unknown").to_string();
        assert!(said.contains("att.query") && said.contains("ffn.receptance") && said.contains("head"), "{said}");
    }

    #[test]
    fn targets_know_their_matrices() {
        assert!(LoraTarget::AttKey.is("blocks.12.att.key") && LoraTarget::Head.is("head"));
        assert!(!LoraTarget::AttKey.is("blocks.0.ffn.key") && !LoraTarget::Head.is("blocks.0.att.key"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let plain = LoraConfig::default();
        plain.validate().expect("the default");
        for (config, word) in [
            (LoraConfig { rank: 0, ..plain.clone() }, "lora_rank"),
            (LoraConfig { alpha: 0.0, ..plain.clone() }, "lora_alpha"),
            (LoraConfig { alpha: f64::NAN, ..plain.clone() }, "lora_alpha"),
            (LoraConfig { targets: vec![], ..plain.clone() }, "lora_targets"),
            (LoraConfig { targets: vec![LoraTarget::Head; 2], ..plain }, "head"),
        ] {
            let said = config.validate().expect_err("refused").to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
