//! Adapters as a value, and on disk: safetensors files with `blocks.N.att.key.lora_a`, `[in, rank]`, and
//! `blocks.N.att.key.lora_b`, `[rank, out]`, for every target, all `f32`.
//!
//! The file's metadata holds
//!
//! | key | value |
//! |---|---|
//! | `format` | `rwkv4-lora` |
//! | `version` | 1 |
//! | `model` | the [`Fingerprint`]'s hash, of the model without adapters |
//! | `rank`, `alpha` | numbers |
//! | `targets` | names, with commas between them |

use super::LoraConfig;
use crate::checkpoint::schema;
use crate::error::{Error, Result};
use crate::stamp::{Stamp, numbers};
use crate::state::Fingerprint;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const STAMP: Stamp = Stamp { format: "rwkv4-lora", version: 1, what: "LoRA adapter" };

/// Trained adapters apart from a model.
///
/// They change one model, whose [`Fingerprint`] their file knows. [`Rwkv::with_lora`](crate::model::Rwkv::with_lora) puts
/// them beside its weights, [`Checkpoint::merge_lora`](crate::checkpoint::Checkpoint::merge_lora) into them.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    config: LoraConfig,
    /// `A` and `B` by the matrix's name without `.weight`.
    matrices: BTreeMap<String, [Vec<f32>; 2]>,
}

impl Lora {
    pub(super) fn new(config: LoraConfig, matrices: BTreeMap<String, [Vec<f32>; 2]>) -> Self {
        Self { config, matrices }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// How many numbers the adapters have together.
    #[must_use]
    pub fn num_params(&self) -> usize {
        self.matrices.values().flatten().map(Vec::len).sum()
    }

    /// The adapted matrices' names, without `.weight`, with `A`, `[in, rank]`, and `B`, `[rank, out]`, row by row.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = (&str, [&[f32]; 2])> {
        self.matrices.iter().map(|(name, [a, b])| (name.as_str(), [&a[..], &b[..]]))
    }

    pub(super) fn matrix(&self, name: &str) -> Option<[&[f32]; 2]> {
        self.matrices.get(name).map(|[a, b]| [&a[..], &b[..]])
    }

    /// Checks that these are adapters for the model with these matrices: names without `.weight`, and `[out, in]`.
    pub(crate) fn check_fits(&self, matrices: impl Iterator<Item = (String, [usize; 2])>) -> Result<()> {
        let rank = self.config.rank;
        let targets = matrices.filter(|(name, _)| self.config.targets.iter().any(|target| target.is(name)));
        let wanted: BTreeMap<String, [usize; 2]> = targets.collect();
        for (name, shape) in &wanted {
            let sizes = self.matrix(name).map(|[a, b]| [b.len() / rank, a.len() / rank]);
            if sizes != Some(*shape) {
                let found = sizes.map_or("none".to_owned(), |sizes| format!("one of shape {sizes:?}"));
                return Err(Error::config("lora", format!("an adapter for {name} of shape {shape:?}"), found));
            }
        }
        match self.matrices.keys().find(|name| !wanted.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::config("lora", "adapters for matrices of the model", format!("one for {name}"))),
        }
    }

    /// Writes the adapters to a file, as those of the model with this [fingerprint](crate::model::Rwkv::fingerprint): that
    /// of the model before it had adapters, or [without them](crate::model::Rwkv::remove_lora).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when it cannot be written.
    pub fn save(&self, path: &Path, base: &Fingerprint) -> Result<()> {
        let rank = self.config.rank;
        let tensors = self.matrices.iter().flat_map(|(name, [a, b])| {
            [
                (format!("{name}.lora_a"), vec![a.len() / rank, rank], a.clone()),
                (format!("{name}.lora_b"), vec![rank, b.len() / rank], b.clone()),
            ]
        });
        let targets: Vec<&str> = self.config.targets.iter().map(|target| target.name()).collect();
        let more =
            [("rank", rank.to_string()), ("alpha", self.config.alpha.to_string()), ("targets", targets.join(","))];
        STAMP.write(path, tensors.collect(), &more, base)
    }

    /// Reads adapters that [`Self::save`] wrote for the model with this fingerprint.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for something that is no adapter, one of another model or of a future version;
    /// [`Error::Tensor`] for tensors that are not those of the model's sizes.
    pub fn load(path: &Path, base: &Fingerprint) -> Result<Self> {
        let file = std::fs::read(path).map_err(Error::io("read", path))?;
        let (file, metadata) = STAMP.read(path, &file, base)?;
        let config = config(&metadata)
            .and_then(|config| config.validate().map(|()| config).map_err(|error| error.to_string()))
            .map_err(|problem| Error::format(path, format!("is a LoRA adapter with an unusable {problem}")))?;
        let mut matrices = BTreeMap::new();
        for (name, shape) in schema::tensors(base.config()) {
            let (Some(name), &[out, inputs]) = (name.strip_suffix(".weight"), &shape[..]) else { continue };
            if config.targets.iter().any(|target| target.is(name)) {
                let a = numbers(&file, path, &format!("{name}.lora_a"), &[inputs, config.rank])?;
                let b = numbers(&file, path, &format!("{name}.lora_b"), &[config.rank, out])?;
                matrices.insert(name.to_owned(), [a, b]);
            }
        }
        if file.len() != 2 * matrices.len() {
            let problem = format!(
                "is no LoRA adapter with its targets: it holds {} tensors, not {}",
                file.len(),
                2 * matrices.len()
            );
            return Err(Error::format(path, problem));
        }
        Ok(Self { config, matrices })
    }
}

/// The configuration in a file's metadata, or the entry that is wrong and what it holds.
fn config(metadata: &HashMap<String, String>) -> std::result::Result<LoraConfig, String> {
    let entry = |key: &str| metadata.get(key).ok_or_else(|| format!("{key}: there is none"));
    let bad = |key: &str, value: &str| format!("{key}: {value:?}");
    let (rank, alpha, targets) = (entry("rank")?, entry("alpha")?, entry("targets")?);
    Ok(LoraConfig {
        rank: rank.parse().map_err(|_| bad("rank", rank))?,
        alpha: alpha.parse().map_err(|_| bad("alpha", alpha))?,
        targets: targets.split(',').map(str::parse).collect::<Result<_>>().map_err(|error| error.to_string())?,
    })
}
