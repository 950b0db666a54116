//! The numbers of a row that a plot can show, and what it can go along.

use crate::metrics::Metrics;
use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What a plot goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    /// Optimizer steps.
    #[default]
    Steps,
    /// Tokens trained on.
    Tokens,
    /// Hours of wall time.
    Hours,
    /// Floating-point operations, by [`crate::flops::per_token`].
    Flops,
}

/// Which number of a row a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// The training loss, thin and pale, and the validation loss, bold.
    #[default]
    Loss,
    /// The validation loss alone.
    ValLoss,
    /// The share of the held-out answers that were right.
    ValAccuracy,
    /// The share of the held-out samples all of whose answers were right.
    ValExact,
    /// The learning rate.
    Lr,
    /// The gradient's norm.
    GradNorm,
    /// The speed.
    TokensPerSecond,
    /// The share of the device's peak.
    Mfu,
}

impl Across {
    const ALL: [(&'static str, Self); 4] =
        [("steps", Self::Steps), ("tokens", Self::Tokens), ("hours", Self::Hours), ("flops", Self::Flops)];

    /// What the axis is called.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Steps => "step",
            Self::Tokens => "tokens",
            Self::Hours => "hours",
            Self::Flops => "floating-point operations",
        }
    }
}

impl Column {
    const ALL: [(&'static str, Self); 8] = [
        ("loss", Self::Loss),
        ("val_loss", Self::ValLoss),
        ("val_accuracy", Self::ValAccuracy),
        ("val_exact", Self::ValExact),
        ("lr", Self::Lr),
        ("grad_norm", Self::GradNorm),
        ("tokens_per_second", Self::TokensPerSecond),
        ("mfu", Self::Mfu),
    ];

    /// What the axis is called.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Loss => "loss (nats per token)",
            Self::ValLoss => "validation loss (nats per token)",
            Self::ValAccuracy => "share of right answers",
            Self::ValExact => "share of samples without a wrong answer",
            Self::Lr => "learning rate",
            Self::GradNorm => "gradient norm",
            Self::TokensPerSecond => "tokens per second",
            Self::Mfu => "share of the peak (MFU)",
        }
    }

    /// Its name in a row.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }

    /// The column's number in a row, where it has one.
    #[must_use]
    pub fn of(self, row: &Metrics) -> Option<f64> {
        match self {
            Self::Loss => Some(row.loss),
            Self::ValLoss => row.val_loss,
            Self::ValAccuracy => row.val_accuracy,
            Self::ValExact => row.val_exact,
            Self::Lr => Some(row.lr),
            Self::GradNorm => Some(row.grad_norm),
            Self::TokensPerSecond => Some(row.tokens_per_second),
            Self::Mfu => row.mfu,
        }
    }
}

fn find<T: Copy, const N: usize>(all: [(&str, T); N], key: &'static str, name: &str) -> Result<T, Error> {
    let names = all.map(|(name, _)| name).join(", ");
    let found = all.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value).ok_or_else(|| Error::config(key, format!("one of {names}"), name))
}

impl FromStr for Across {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        find(Self::ALL, "x", name)
    }
}

impl FromStr for Column {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        find(Self::ALL, "y", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_rows_own_and_others_are_refused() {
        for (name, column) in Column::ALL {
            assert_eq!(name.parse::<Column>().expect(name), column);
        }
        let said = "speed".parse::<Column>().expect_err("unknown").to_string();
        let names = "loss, val_loss, val_accuracy, val_exact, lr, grad_norm, tokens_per_second, mfu";
        assert_eq!(said, format!("y: expected one of {names}, found speed"));
        assert!("days".parse::<Across>().expect_err("unknown").to_string().contains("hours"));
    }
}
