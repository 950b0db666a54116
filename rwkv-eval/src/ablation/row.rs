//! A run, as a row of `results.jsonl`, and what decides between runs.

use serde::{Deserialize, Serialize};

/// What runs are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The held-out loss at the end, in nats per token; lower is better.
    #[default]
    ValLoss,
    /// The share of held-out answers' tokens that are right at the end; higher is better.
    ValAccuracy,
    /// The share of held-out answers that are right in every token at the end; higher is better.
    ValExact,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ValLoss, Self::ValAccuracy, Self::ValExact];

    /// Its name, in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ValLoss => "val_loss",
            Self::ValAccuracy => "val_accuracy",
            Self::ValExact => "val_exact",
        }
    }

    /// What its numbers are, for people.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            Self::ValLoss => "held-out loss, nats per token",
            Self::ValAccuracy => "share of held-out tokens answered right",
            Self::ValExact => "share of held-out answers right throughout",
        }
    }

    /// Whether less of it is better.
    #[must_use]
    pub fn lower_is_better(self) -> bool {
        self == Self::ValLoss
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;

    /// A metric by its name.
    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| format!("metric `{name}` is none of {names}"))
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// With its last step.
    #[default]
    Done,
    /// Early; [`Row::error`] says why.
    Failed,
    /// It has not.
    Pending,
}

/// A run: a row of `results.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Row {
    /// The variant that it is of.
    pub variant: String,
    /// The seed of its weights and of the order of its data.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Its parameters.
    pub params: Option<usize>,
    /// Bytes of one sequence's state.
    pub state_bytes: Option<usize>,
    /// Steps that it was trained for.
    pub steps: usize,
    /// Tokens that it was trained on.
    pub tokens: u64,
    /// Held-out loss at the end, in nats per token.
    pub val_loss: Option<f64>,
    /// The least held-out loss on the way.
    pub best_val_loss: Option<f64>,
    /// The share of held-out answers' tokens that are right at the end, for tasks that have it.
    pub val_accuracy: Option<f64>,
    /// The share of held-out answers that are right throughout at the end, for tasks that have it.
    pub val_exact: Option<f64>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// How fast it trained, validation and checkpoints left out.
    pub tokens_per_second: Option<f64>,
    /// Why it failed: a sentence.
    pub error: Option<String>,
}

impl Row {
    /// A run that ended well and of which nothing else is known.
    #[must_use]
    pub fn new(variant: impl Into<String>, seed: u64) -> Self {
        Self { variant: variant.into(), seed, ..Self::default() }
    }

    /// Its metric, where it has it.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::ValLoss => self.val_loss,
            Metric::ValAccuracy => self.val_accuracy,
            Metric::ValExact => self.val_exact,
        }
    }
}
