//! The result of an evaluation, with everything that it depends on.

use rwkv_core::provenance::Provenance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Scores of a model, and all that they depend on: what `evaluate --out` writes and `compare` reads.
///
/// The names at the top are those of the reference harness's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Metrics by task; one that is no finite number is `null` in the file: `acc`, `acc_stderr`, `acc_norm`, `acc_norm_stderr`, `perplexity`, `perplexity_stderr`.
    #[serde(deserialize_with = "with_nulls")]
    pub results: BTreeMap<String, BTreeMap<String, f64>>,
    /// The tasks' versions.
    pub versions: BTreeMap<String, u32>,
    /// Worked examples before each question.
    #[serde(rename = "n-shot")]
    pub n_shot: BTreeMap<String, usize>,
    /// Documents there were, and documents that were asked.
    #[serde(rename = "n-samples")]
    pub n_samples: BTreeMap<String, Samples>,
    /// Whether a metric is better when it is higher.
    pub higher_is_better: BTreeMap<String, BTreeMap<String, bool>>,
    /// The model.
    pub model: ModelInfo,
    /// How it was asked.
    pub settings: Settings,
    /// How long it took.
    pub speed: Speed,
    /// What computed it, where and when.
    pub provenance: Provenance,
}

/// How many documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// In the data.
    pub original: usize,
    /// Asked.
    pub effective: usize,
    /// Requests that were longer than the longest allowed and lost their beginning.
    #[serde(default)]
    pub truncated: usize,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// As it was named to the program.
    pub name: String,
    /// The hash of its weights.
    pub fingerprint: String,
    /// Its parameters, embeddings included.
    pub parameters: usize,
    /// Its sizes.
    pub config: serde_json::Value,
    /// Precision of its weights.
    pub dtype: String,
    /// Its tokenizer's file.
    pub tokenizer: String,
    /// The XXH3-128 of that file's bytes; empty in files of versions that did not write it.
    #[serde(default)]
    pub tokenizer_hash: String,
}

/// How the model was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `harness` (nothing before the text) or `reference` (a newline, as the official script has it).
    pub context_start: String,
    /// Documents of each task at most; all where there is none.
    pub limit: Option<usize>,
    /// Requests at once.
    pub batch_size: usize,
    /// Tokens of a request at most; longer ones lose their beginning.
    pub max_length: usize,
    /// Whether common beginnings were read once.
    pub prefix_sharing: bool,
    /// The seed of the worked examples.
    pub seed: u64,
    /// Resamples behind the standard error of a perplexity; 0 where there is none.
    #[serde(default)]
    pub resamples: usize,
    /// The split of each task's data that was asked.
    #[serde(default)]
    pub splits: BTreeMap<String, String>,
    /// The data files by task, with their hashes.
    pub data: BTreeMap<String, Vec<(String, String)>>,
}

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Seconds of asking, without loading.
    pub seconds: f64,
    /// Documents.
    pub samples: usize,
    /// Requests.
    pub requests: usize,
    /// Requests among them that an interrupted evaluation had answered before; no time and no tokens of theirs count here.
    #[serde(default)]
    pub resumed: usize,
    /// Tokens that the model read.
    pub tokens_read: usize,
    /// Tokens of all requests, which it would have read one request at a time.
    pub tokens_asked: usize,
}

/// Metrics as JSON holds them, which has no number that is not finite.
fn with_nulls<'de, D: serde::Deserializer<'de>>(json: D) -> Result<BTreeMap<String, BTreeMap<String, f64>>, D::Error> {
    let tasks = BTreeMap::<String, BTreeMap<String, Option<f64>>>::deserialize(json)?;
    let numbers = |task: BTreeMap<String, Option<f64>>| {
        task.into_iter().map(|(metric, number)| (metric, number.unwrap_or(f64::NAN))).collect()
    };
    Ok(tasks.into_iter().map(|(name, task)| (name, numbers(task))).collect())
}
