//! How time and memory grow with the text, as in the paper's figures on inference.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Curves`]: the result |
//! | `measure.rs` | [`measure`]: the measurement of one model |
//! | `report.rs` | the report |
//!
//! # Source
//! Paper §6 and appendix I (first version); reference §8.4.

mod measure;
mod report;

pub use measure::{Options, measure, resident_bytes};

use rwkv_core::provenance::Provenance;
use serde::{Deserialize, Serialize};

/// The curves of some models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The models.
    pub models: Vec<OfModel>,
    /// How it was measured, by name.
    pub settings: Vec<(String, String)>,
    /// What measured it.
    pub provenance: Provenance,
}

/// The curves of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfModel {
    /// What the model is called.
    pub label: String,
    /// Its parameters, embeddings included.
    pub params: usize,
    /// While it writes, from the first token on.
    pub writing: Vec<Written>,
    /// Seconds of one token, in parts of the text of equal length.
    pub latencies: Vec<Latency>,
    /// Reading prompts of some lengths.
    pub reading: Vec<Read>,
}

/// After so many tokens were written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// How many.
    pub tokens: usize,
    /// Seconds for all of them: the median of the repetitions.
    pub seconds: f64,
    /// What the state takes.
    pub state_bytes: usize,
    /// What the process takes of main memory beyond what it took before the first token, the most of the repetitions; nothing
    /// where the system does not tell.
    pub grown_bytes: Option<u64>,
}

/// Seconds of one token in a part of the text, over all repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The part's first token, from 0.
    pub from: usize,
    /// The token after its last.
    pub to: usize,
    /// Half of the tokens took no longer.
    pub p50: f64,
    /// 90 % did.
    pub p90: f64,
    /// 99 % did.
    pub p99: f64,
}

/// A prompt that was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// Its tokens.
    pub tokens: usize,
    /// Seconds until the logits after it: the median of the repetitions.
    pub seconds: f64,
}
