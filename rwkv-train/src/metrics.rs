//! Rows of `metrics.jsonl`.

use rwkv_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// The file of a run's folder that holds its rows.
pub const FILE: &str = "metrics.jsonl";

/// One row: what training looked like over the steps since the row before.
///
/// Rows of older versions lack `tokens`, `mfu` and `seconds`, and are read as 0 and `None`; those of text lack accuracies.
///
/// # Example
/// ```
/// use rwkv_train::metrics::Metrics;
/// let old = r#"{"step":10,"loss":2.5,"val_loss":null,"tokens_per_second":900.0,"lr":0.001,"grad_norm":0.7}"#;
/// let row: Metrics = serde_json::from_str(old).unwrap();
/// assert_eq!((row.step, row.tokens, row.mfu, row.seconds), (10, 0, None, None));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The last step of the row, counted from 1.
    pub step: usize,
    /// Mean training loss over the row's steps, in nats per token.
    pub loss: f64,
    /// Validation loss after this step, in nats per token, where it was measured.
    pub val_loss: Option<f64>,
    /// Share of the held-out answers that were right after this step, where the data has answers ([`crate::exact_match`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f64>,
    /// Share of the held-out samples all of whose answers were right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_exact: Option<f64>,
    /// Training speed over the row's steps, validation and checkpoints left out.
    pub tokens_per_second: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the step's whole gradient before clipping.
    pub grad_norm: f64,
    /// Tokens that the run has trained on up to this step.
    #[serde(default)]
    pub tokens: u64,
    /// Share of the device's peak that the row's speed amounts to, where the peak is known ([`crate::flops::Meter`]).
    #[serde(default)]
    pub mfu: Option<f64>,
    /// Wall time that the run has taken up to this row, validation, checkpoints and the time before a resume included.
    #[serde(default)]
    pub seconds: Option<f64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: usize) -> Metrics {
        Metrics {
            step,
            loss: 2.5,
            val_loss: Some(2.75),
            val_accuracy: Some(0.5),
            val_exact: Some(0.25),
            tokens_per_second: 1e4,
            lr: 1e-3,
            grad_norm: 0.5,
            tokens: 7680,
            mfu: Some(0.3),
            seconds: Some(1.5),
        }
    }

    #[test]
    fn rows_are_read_back_and_so_are_those_of_older_versions() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("metrics.jsonl");
        let old = r#"{"step":1,"loss":3.5,"val_loss":3.25,"tokens_per_second":900.0,"lr":0.001,"grad_norm":0.7}"#;
        std::fs::write(&file, format!("{old}\n")).expect("written");
        append(&file, &row(2)).expect("appended");
        let rows = read(&file).expect("both rows");
        assert_eq!(rows[1], row(2));
        let old =
            Metrics { step: 1, loss: 3.5, val_loss: Some(3.25), tokens_per_second: 900.0, grad_norm: 0.7, ..row(1) };
        let old = Metrics { tokens: 0, mfu: None, seconds: None, val_accuracy: None, val_exact: None, ..old };
        assert_eq!(rows[0], old);
        let text = serde_json::to_string(&old).expect("JSON");
        assert!(!text.contains("accuracy") && !text.contains("exact"), "{text}");
    }

    #[test]
    fn a_bad_row_is_named_by_file_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("metrics.jsonl");
        append(&file, &row(1)).expect("appended");
        for bad in ["{\"step\": 2}", "not JSON", "{\"step\": 2, \"speed\": 1}"] {
            let good = std::fs::read_to_string(&file).expect("text");
            let first = good.lines().next().expect("a row").to_owned();
            std::fs::write(&file, format!("{first}\n{bad}\n")).expect("written");
            let said = read(&file).expect_err("a bad row").to_string();
            assert!(said.contains("metrics.jsonl") && said.contains("line 2"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
