//! Which part does what? Variants of one configuration, each trained from several seeds, ranked and judged against a baseline.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Study`]: variants, their runs, and what they say |
//! | `row.rs` | [`Row`]: a run in `results.jsonl`, and [`Metric`] |
//! | `stats.rs` | the paired t test and Holm's correction |
//! | `verdict.rs` | the sentences |
//! | `report.rs`, `charts.rs` | the report |

mod charts;
mod report;
mod row;
mod stats;
mod verdict;

pub use row::{Metric, Row, Status};
pub use stats::{PairedT, holm};

use crate::scaling::mean_and_stderr;
use rwkv_core::provenance::Provenance;
use serde::{Deserialize, Serialize};

/// Differences whose corrected probability is under this are told apart.
pub const LEVEL: f64 = 0.05;

/// A configuration that is compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name, which no other has.
    pub name: String,
    /// What whoever wrote the study says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// With which variants it shares a line in the plot against [`Self::x`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A number that the metric is plotted against, such as a size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// Keys of the configuration whose values are not the baseline's.
    pub changes: Vec<(String, String)>,
}

/// The held-out loss of a run on the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The run's variant.
    pub variant: String,
    /// The run's seed.
    pub seed: u64,
    /// Steps done, and the held-out loss in nats per token.
    pub points: Vec<(usize, f64)>,
}

/// Variants, each trained from several seeds.
///
/// # Example
/// ```
/// use rwkv_core::provenance::Provenance;
/// use rwkv_eval::ablation::{Metric, Row, Study, Variant};
/// let variant = |name: &str| Variant { name: name.into(), ..Variant::default() };
/// let mut study = Study::new("Does the gate help?", Metric::ValLoss, Provenance::of_this_process("flex"));
/// study.variants = vec![variant("rwkv-4"), variant("no gate")];
/// for (seed, loss) in [1.50, 1.52, 1.49].into_iter().enumerate() {
///     study.rows.push(Row { val_loss: Some(loss), ..Row::new("rwkv-4", seed as u64) });
///     study.rows.push(Row { val_loss: Some(loss + 0.1 + 0.01 * seed as f64), ..Row::new("no gate", seed as u64) });
/// }
/// let standings = study.standings();
/// assert_eq!(standings[1].variant, "no gate");
/// assert!((standings[1].difference.unwrap() - 0.11).abs() < 1e-9);
/// assert!(standings[1].corrected_p.unwrap() < 0.05);
/// assert!(study.verdict().contains("Worse: no gate"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// What it is to answer; empty where nobody asked.
    pub question: String,
    /// The variant that the others are compared with; the first where it is empty.
    pub baseline: String,
    /// What decides.
    pub metric: Metric,
    /// The variants, in the study's order.
    pub variants: Vec<Variant>,
    /// The runs.
    pub rows: Vec<Row>,
    /// Their losses on the way.
    pub curves: Vec<Curve>,
    /// What must be known to read the numbers aright: a sentence each.
    pub notes: Vec<String>,
    /// What the runs have in common, by name.
    pub settings: Vec<(String, String)>,
    /// What trained them.
    pub provenance: Provenance,
}

/// What a variant's runs come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The variant.
    pub variant: String,
    /// Its parameters; nothing where no run got as far as to have any.
    pub params: Option<usize>,
    /// Bytes of one sequence's state, where they were counted.
    pub state_bytes: Option<usize>,
    /// Runs that ended well.
    pub done: usize,
    /// Runs that there should be.
    pub seeds: usize,
    /// Mean of the metric over the runs that ended well.
    pub mean: Option<f64>,
    /// Its standard error; nothing for one run.
    pub stderr: Option<f64>,
    /// Mean of the metric less the baseline's over the seeds that both have; nothing for the baseline.
    pub difference: Option<f64>,
    /// The standard error of the difference.
    pub difference_stderr: Option<f64>,
    /// The test of the difference.
    pub test: Option<PairedT>,
    /// Its probability, corrected by Holm's method for all the tests of the study.
    pub corrected_p: Option<f64>,
    /// Mean time of a run.
    pub seconds: Option<f64>,
}

/// How a variant compares with the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Told apart, for the better.
    Better,
    /// Told apart, for the worse.
    Worse,
    /// Tested, and not told apart.
    NotToldApart,
    /// Fewer than two seeds in common with the baseline.
    NotTested,
    /// No run ended well.
    Failed,
}

impl Study {
    /// A study without variants and runs.
    #[must_use]
    pub fn new(question: impl Into<String>, metric: Metric, provenance: Provenance) -> Self {
        Self {
            question: question.into(),
            baseline: String::new(),
            metric,
            variants: Vec::new(),
            rows: Vec::new(),
            curves: Vec::new(),
            notes: Vec::new(),
            settings: Vec::new(),
            provenance,
        }
    }

    /// The baseline's name: [`Self::baseline`], or the first variant's.
    #[must_use]
    pub fn baseline(&self) -> &str {
        match (self.baseline.as_str(), self.variants.first()) {
            ("", Some(first)) => &first.name,
            (named, _) => named,
        }
    }

    /// The variants from the best to the worst, and last those of which no run ended well. None is left out.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let mut standings: Vec<Standing> = self.variants.iter().map(|variant| self.standing(&variant.name)).collect();
        let tested: Vec<usize> = (0..standings.len()).filter(|&i| standings[i].test.is_some()).collect();
        let ps: Vec<f64> = tested.iter().filter_map(|&i| standings[i].test.map(|test| test.p)).collect();
        for (&i, p) in tested.iter().zip(holm(&ps)) {
            standings[i].corrected_p = Some(p);
        }
        // The sort is stable: equals stay in the study's order.
        standings.sort_by(|a, b| self.rank(a).total_cmp(&self.rank(b)));
        standings
    }

    fn rank(&self, standing: &Standing) -> f64 {
        let sign = if self.metric.lower_is_better() { 1.0 } else { -1.0 };
        standing.mean.map_or(f64::INFINITY, |mean| sign * mean)
    }

    fn standing(&self, variant: &str) -> Standing {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.variant == variant).collect();
        let values = self.values(variant);
        let (mean, stderr) = mean_and_stderr(&values.iter().map(|value| value.1).collect::<Vec<_>>());
        let baseline = if variant == self.baseline() { Vec::new() } else { self.values(self.baseline()) };
        let difference = |(seed, value): &(u64, f64)| {
            baseline.iter().find(|of_baseline| of_baseline.0 == *seed).map(|of_baseline| value - of_baseline.1)
        };
        let differences: Vec<f64> = values.iter().filter_map(difference).collect();
        let (mean_difference, difference_stderr) = mean_and_stderr(&differences);
        let done: Vec<&&Row> = rows.iter().filter(|row| row.status == Status::Done).collect();
        let seconds = done.iter().filter_map(|row| row.seconds).collect::<Vec<_>>();
        Standing {
            variant: variant.to_owned(),
            params: rows.iter().find_map(|row| row.params),
            state_bytes: rows.iter().find_map(|row| row.state_bytes),
            done: done.len(),
            seeds: rows.len(),
            mean: (!values.is_empty()).then_some(mean),
            stderr,
            difference: (!differences.is_empty()).then_some(mean_difference),
            difference_stderr,
            test: PairedT::of(&differences),
            corrected_p: None,
            seconds: (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64),
        }
    }

    /// The metric of a variant's runs that ended well, by seed.
    fn values(&self, variant: &str) -> Vec<(u64, f64)> {
        let rows = self.rows.iter().filter(|row| row.variant == variant && row.status == Status::Done);
        rows.filter_map(|row| Some((row.seed, row.value(self.metric)?))).collect()
    }
}

impl Standing {
    /// How the variant compares with the baseline; nothing for the baseline itself.
    #[must_use]
    pub fn outcome(&self, study: &Study) -> Option<Outcome> {
        if self.variant == study.baseline() {
            return None;
        }
        let better = self.difference.map(|difference| (difference < 0.0) == study.metric.lower_is_better());
        Some(match (self.mean, self.corrected_p, better) {
            (None, ..) => Outcome::Failed,
            (_, Some(p), Some(better)) if p < LEVEL => {
                if better {
                    Outcome::Better
                } else {
                    Outcome::Worse
                }
            }
            (_, Some(_), _) => Outcome::NotToldApart,
            (_, None, _) => Outcome::NotTested,
        })
    }
}

#[cfg(test)]
mod tests;
