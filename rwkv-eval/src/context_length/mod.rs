//! Does a longer context lower the loss? The paper's third question, asked of any model and text.
//!
//! Two curves answer it. **By position**: windows of a text are read from the empty state, and the loss of a token is put
//! down under the number of tokens before it. **By length**: the same few targets at the end of each window are predicted
//! after the last 16, 32, … tokens before them, so that nothing but the context changes from one length to the next.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`ContextLengths`]: the result |
//! | `measure.rs` | [`measure`]: the measurement |
//! | `report.rs` | the report |
//!
//! # Source
//! Paper §5.3 and figure 5 (first version); reference §8.4.

mod measure;
mod report;

pub use measure::{Options, measure};

use rwkv_core::provenance::Provenance;
use serde::{Deserialize, Serialize};

/// The losses of some models on a text, by context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextLengths {
    /// The models.
    pub models: Vec<OfModel>,
    /// How it was measured, by name.
    pub settings: Vec<(String, String)>,
    /// What measured it.
    pub provenance: Provenance,
}

/// The losses of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfModel {
    /// What the model is called.
    pub label: String,
    /// Its parameters.
    pub params: usize,
    /// By the number of tokens before the target, from few to many.
    pub by_position: Vec<AtPosition>,
    /// By the length of the context, from short to long.
    pub by_length: Vec<AtLength>,
}

/// The loss of tokens with so many tokens before them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtPosition {
    /// At least so many tokens before the target.
    pub from: usize,
    /// Fewer than so many.
    pub to: usize,
    /// Mean loss, in nats per token.
    pub loss: f64,
    /// Its standard error over windows.
    pub stderr: f64,
}

/// The loss of the same targets after a context of so many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtLength {
    /// Tokens before the first target.
    pub ctx_len: usize,
    /// Mean loss, in nats per token.
    pub loss: f64,
    /// Its standard error over windows.
    pub stderr: f64,
    /// The loss less that after the shortest context, window by window.
    pub change: f64,
    /// The standard error of this difference.
    pub change_stderr: f64,
}
