//! Is RWKV as good as a Transformer of equal size and data, and does that hold as size grows? The paper's first two questions,
//! asked of models that were trained on the same tokens.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Scaling`]: the runs, and what they say |
//! | `report.rs` | the report |

mod report;

use crate::fit::PowerLaw;
use rwkv_core::provenance::Provenance;
use serde::{Deserialize, Serialize};

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// RWKV-4.
    Rwkv,
    /// The Transformer with the blocks of GPT-NeoX and Pythia.
    Transformer,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rwkv, Self::Transformer];

    /// The family's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rwkv => "RWKV-4",
            Self::Transformer => "Transformer",
        }
    }
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its family.
    pub family: Family,
    /// What it shares with one of the other family: layers and width, as `4x128`.
    pub size: String,
    /// The seed of its weights and of the order of its data.
    pub seed: u64,
    /// Its parameters.
    pub params: usize,
    /// Its parameters without embedding and head.
    pub params_of_blocks: usize,
    /// Tokens that it was trained on.
    pub tokens: u64,
    /// Floating-point operations of its training.
    pub flops: f64,
    /// Mean loss on the held-out text at the end, in nats per token.
    pub loss: f64,
    /// How long its training took.
    pub seconds: f64,
    /// The loss on the way.
    pub curve: Vec<OnTheWay>,
}

/// The held-out loss at a moment of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OnTheWay {
    /// Tokens until then.
    pub tokens: u64,
    /// Floating-point operations until then.
    pub flops: f64,
    /// Mean loss in nats per token.
    pub loss: f64,
}

/// Models of several sizes of both families, trained on the same tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The runs.
    pub runs: Vec<Run>,
    /// What all of them have in common, by name.
    pub settings: Vec<(String, String)>,
    /// What trained them.
    pub provenance: Provenance,
}

/// The runs of one family and size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The family.
    pub family: Family,
    /// The size.
    pub size: String,
    /// Parameters.
    pub params: usize,
    /// Parameters without embedding and head.
    pub params_of_blocks: usize,
    /// Floating-point operations of a run.
    pub flops: f64,
    /// Mean loss over the seeds.
    pub loss: f64,
    /// Its standard error; nothing for one seed.
    pub stderr: Option<f64>,
    /// Seeds.
    pub seeds: usize,
    /// Mean time of a run.
    pub seconds: f64,
}

/// RWKV's loss less the Transformer's at one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The size.
    pub size: String,
    /// Mean over the seeds, each seed's order of data being the same for both.
    pub loss: f64,
    /// Its standard error; nothing for one seed.
    pub stderr: Option<f64>,
}

/// A family's law.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law {
    /// The family.
    pub family: Family,
    /// Loss against parameters without embedding and head.
    pub of_params: Option<PowerLaw>,
    /// Loss against floating-point operations.
    pub of_flops: Option<PowerLaw>,
}

impl Scaling {
    /// Means over seeds, by family and then by size from small to large.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut keys: Vec<(Family, usize, &str)> =
            self.runs.iter().map(|run| (run.family, run.params, run.size.as_str())).collect();
        keys.sort_unstable();
        keys.dedup();
        let group = |(family, params, size): (Family, usize, &str)| {
            let runs: Vec<&Run> = self.runs.iter().filter(|run| run.family == family && run.size == size).collect();
            let (loss, stderr) = mean_and_stderr(&runs.iter().map(|run| run.loss).collect::<Vec<_>>());
            let mean = |of: fn(&Run) -> f64| runs.iter().map(|run| of(run)).sum::<f64>() / runs.len() as f64;
            Group {
                family,
                size: size.to_owned(),
                params,
                params_of_blocks: runs[0].params_of_blocks,
                flops: mean(|run| run.flops),
                loss,
                stderr,
                seeds: runs.len(),
                seconds: mean(|run| run.seconds),
            }
        };
        keys.into_iter().map(group).collect()
    }

    /// RWKV's loss less the Transformer's, at every size that both have with the same seeds.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let sizes = self.groups().into_iter().filter(|group| group.family == Family::Rwkv).map(|group| group.size);
        let of = |size: String| {
            let loss = |family: Family, seed: u64| {
                let of_run = |run: &&Run| run.family == family && run.size == size && run.seed == seed;
                self.runs.iter().find(of_run).map(|run| run.loss)
            };
            let mut seeds: Vec<u64> = self.runs.iter().map(|run| run.seed).collect();
            seeds.sort_unstable();
            seeds.dedup();
            let pairs =
                seeds.into_iter().filter_map(|seed| Some(loss(Family::Rwkv, seed)? - loss(Family::Transformer, seed)?));
            let pairs: Vec<f64> = pairs.collect();
            (!pairs.is_empty()).then(|| {
                let (loss, stderr) = mean_and_stderr(&pairs);
                Difference { size, loss, stderr }
            })
        };
        sizes.filter_map(of).collect()
    }

    /// The families' laws.
    #[must_use]
    pub fn laws(&self) -> Vec<Law> {
        let groups = self.groups();
        let law = |family: Family| {
            let of = |x: fn(&Group) -> f64| {
                let points = groups.iter().filter(|group| group.family == family).map(|group| (x(group), group.loss));
                PowerLaw::fit(&points.collect::<Vec<_>>())
            };
            let of_params = of(|group| group.params_of_blocks as f64);
            Law { family, of_params, of_flops: of(|group| group.flops) }
        };
        let there = |family: &Family| groups.iter().any(|group| group.family == *family);
        Family::ALL.into_iter().filter(there).map(law).collect()
    }
}

/// The mean, and its standard error `s/√n` with `n − 1` under the sum of squares.
pub(crate) fn mean_and_stderr(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(family: Family, size: &str, seed: u64, params: usize, loss: f64) -> Run {
        let curve = vec![OnTheWay { tokens: 500, flops: 3.0 * params as f64, loss: loss + 0.5 }];
        let flops = 6.0 * params as f64 * 1000.0;
        let (size, params_of_blocks) = (size.to_owned(), params - 10);
        Run { family, size, seed, params, params_of_blocks, tokens: 1000, flops, loss, seconds: 2.0, curve }
    }

    fn scaling() -> Scaling {
        let mut runs = Vec::new();
        for seed in 0..3u64 {
            for (size, params) in [("4x8", 1000), ("2x4", 100)] {
                let base = 10.0 / (params as f64).powf(0.2) + 0.01 * seed as f64;
                runs.push(run(Family::Transformer, size, seed, params + 1, base + 0.1));
                runs.push(run(Family::Rwkv, size, seed, params, base + 0.001 * seed as f64));
            }
        }
        Scaling { runs, settings: vec![("text".into(), "x".into())], provenance: Provenance::of_this_process("flex") }
    }

    #[test]
    fn groups_are_means_from_small_to_large() {
        let groups = scaling().groups();
        let names: Vec<(Family, &str)> = groups.iter().map(|group| (group.family, group.size.as_str())).collect();
        let (rwkv, transformer) = (Family::Rwkv, Family::Transformer);
        assert_eq!(names, [(rwkv, "2x4"), (rwkv, "4x8"), (transformer, "2x4"), (transformer, "4x8")]);
        assert_eq!(groups[0].seeds, 3);
        assert!((groups[2].stderr.expect("three seeds") - 0.01 / 3f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn differences_are_taken_seed_by_seed() {
        let differences = scaling().differences();
        assert_eq!(differences.len(), 2);
        assert!((differences[0].loss + 0.099).abs() < 1e-9);
        // What the seeds have in common falls out.
        assert!((differences[0].stderr.expect("three seeds") - 0.001 / 3f64.sqrt()).abs() < 1e-9);
        let mut one = scaling();
        one.runs.retain(|run| run.family == Family::Rwkv || run.size == "2x4");
        assert_eq!(one.differences().len(), 1);
    }

    #[test]
    fn the_report_has_all_of_it() {
        let report = scaling().document();
        let text = report.markdown("scaling");
        for word in ["2x4", "4x8", "RWKV-4", "Transformer", "scaling-loss-params.svg", "scaling-loss-flops.svg"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        assert!(report.html().expect("draws").contains("<svg"));
        assert!(report.summary[0].contains("at every size"), "{}", report.summary[0]);
    }
}
