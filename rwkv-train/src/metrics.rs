//! Rows of `metrics.jsonl`.

use rwkv_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// One row: what training looked like over the steps since the row before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The last step of the row, counted from 1.
    pub step: usize,
    /// Mean training loss over the row's steps, in nats per token.
    pub loss: f64,
    /// Validation loss after this step, in nats per token, where it was measured.
    pub val_loss: Option<f64>,
    /// Training speed over the row's steps, validation and checkpoints left out.
    pub tokens_per_second: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the step's whole gradient before clipping.
    pub grad_norm: f64,
}

/// Appends a row to a file.
///
/// # Errors
/// [`Error::Io`].
pub fn append(path: &Path, metrics: &Metrics) -> Result<()> {
    let mut line = serde_json::to_string(metrics).map_err(|error| Error::format(path, error.to_string()))?;
    line.push('\n');
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
    file.write_all(line.as_bytes()).map_err(Error::io("write", path))
}

/// Reads all rows of a file; none where there is no file.
///
/// # Errors
/// [`Error::Io`] or [`Error::Format`].
pub fn read(path: &Path) -> Result<Vec<Metrics>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|error| Error::format(path, format!("line {}: {error}", i + 1)))
        })
        .collect()
}
