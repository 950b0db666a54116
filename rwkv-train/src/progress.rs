//! How far a run has come: what a checkpoint must hold beside weights and moments.

use rwkv_core::error::{Error, Result};
use rwkv_core::files::write_atomic;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How far a run has come. The data's place, the learning rate and dropout follow from `step` and the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done, those left out among them.
    pub step: usize,
    /// Steps in a row that were left out just now.
    pub skipped: usize,
    /// Seconds of the clock, validation and checkpoints among them.
    pub seconds: f64,
    /// Steps that the moving mean of the loss knows.
    pub losses: usize,
    /// Moving mean of the loss.
    pub loss_mean: f64,
    /// Moving variance of the loss.
    pub loss_variance: f64,
}

impl Progress {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|error| Error::format(path, error.to_string()))?;
        write_atomic(path, json.as_bytes())
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::format(path, format!("does not say how far a run has come: {error}")))
    }
}
