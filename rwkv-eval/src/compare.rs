//! Evaluations side by side, and beside the paper's table.

mod document;
mod settings;

use crate::report::paper::{COLUMNS, Family, PaperRow};
use crate::report::{Evaluation, metric_names};
use serde::Serialize;

/// How far sizes may be apart, as a share, for a model to be the paper's.
const SAME_SIZE: f64 = 0.2;

/// Several evaluations, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The models in the order in which they were given.
    pub models: Vec<Model>,
    /// A row for every metric of every task.
    pub rows: Vec<Row>,
    /// Where the models were not asked in the same way, and other reasons for care: a sentence each.
    pub warnings: Vec<String>,
    /// The paper's rows that were asked for.
    #[serde(serialize_with = "paper_rows")]
    pub paper: Vec<&'static PaperRow>,
    /// Differences from the paper's RWKV-4 of the same size, where it has one; empty unless the paper was asked for.
    pub from_paper: Vec<FromPaper>,
}

/// One of the models.
#[derive(Debug, Clone, Serialize)]
pub struct Model {
    /// What it is called here.
    pub label: String,
    /// The hash of its weights.
    pub fingerprint: String,
    /// Its parameters, embeddings included.
    pub parameters: usize,
}

/// A metric of a task.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// The models' scores; none where a model was not asked.
    pub scores: Vec<Option<Score>>,
    /// Differences from the first model; none for itself, and where one of the two has no score.
    pub differences: Vec<Option<Difference>>,
}

/// A score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// The metric.
    pub value: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
    /// Whether no model has a better one.
    pub best: bool,
}

/// How far a score is from another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The score minus the other.
    pub value: f64,
    /// `√(s₁² + s₂²)`, as if the two had been asked about different documents; none where an error is unknown.
    pub stderr: Option<f64>,
}

/// A model's scores minus those of the paper's model.
#[derive(Debug, Clone, Serialize)]
pub struct FromPaper {
    /// The model's place among [`Comparison::models`].
    pub model: usize,
    /// The paper's row.
    pub paper: String,
    /// By column of [`COLUMNS`]; the errors are the model's own, since the paper has none.
    pub differences: Vec<Option<Difference>>,
}

impl Comparison {
    /// Sets evaluations side by side, each under its label, and beside rows of the paper.
    ///
    /// # Errors
    /// [`Error::Config`](rwkv_core::error::Error::Config) when there is nothing to compare: no evaluation, or only one and no
    /// row of the paper.
    pub fn new(evaluations: &[(String, Evaluation)], paper: Vec<&'static PaperRow>) -> crate::error::Result<Self> {
        if evaluations.is_empty() || evaluations.len() == 1 && paper.is_empty() {
            let expected = "at least two, or one and the paper's";
            return Err(rwkv_core::error::Error::config("reports", expected, evaluations.len()).into());
        }
        let models = evaluations.iter().map(|(label, evaluation)| Model {
            label: label.clone(),
            fingerprint: evaluation.model.fingerprint.clone(),
            parameters: evaluation.model.parameters,
        });
        let from_paper = if paper.is_empty() { Vec::new() } else { from_paper(evaluations) };
        Ok(Self {
            models: models.collect(),
            rows: rows(evaluations),
            warnings: settings::warnings(evaluations, !paper.is_empty()),
            paper,
            from_paper,
        })
    }

    /// A model's score.
    #[must_use]
    pub fn score(&self, model: usize, task: &str, metric: &str) -> Option<Score> {
        let row = self.rows.iter().find(|row| row.task == task && row.metric == metric)?;
        row.scores.get(model).copied().flatten()
    }
}

fn rows(evaluations: &[(String, Evaluation)]) -> Vec<Row> {
    let mut tasks: Vec<&String> = evaluations.iter().flat_map(|(_, evaluation)| evaluation.results.keys()).collect();
    // In the paper's order, then by name.
    let place = |task: &str| COLUMNS.iter().position(|(of_column, _)| *of_column == task).unwrap_or(COLUMNS.len());
    tasks.sort_by_key(|task| (place(task), *task));
    tasks.dedup();
    let mut rows = Vec::new();
    for task in tasks {
        let of_task: Vec<_> = evaluations.iter().map(|(_, evaluation)| evaluation.results.get(task)).collect();
        for metric in metric_names(of_task.iter().copied().flatten()) {
            let declared = evaluations.iter().find_map(|(_, e)| e.higher_is_better.get(task)?.get(metric)).copied();
            let higher_is_better = declared.unwrap_or(!metric.contains("perplexity"));
            let mut scores: Vec<Option<Score>> =
                evaluations.iter().map(|(_, evaluation)| score(evaluation, task, metric)).collect();
            mark_best(&mut scores, higher_is_better);
            let first = scores[0];
            let from_first = |score: &Option<Score>| Some(difference((*score)?, first?));
            let differences =
                scores.iter().enumerate().map(|(i, score)| if i == 0 { None } else { from_first(score) }).collect();
            rows.push(Row { task: task.clone(), metric: metric.to_owned(), higher_is_better, scores, differences });
        }
    }
    rows
}

fn score(evaluation: &Evaluation, task: &str, metric: &str) -> Option<Score> {
    let metrics = evaluation.results.get(task)?;
    let stderr = metrics.get(&format!("{metric}_stderr")).copied().filter(|error| error.is_finite());
    Some(Score { value: *metrics.get(metric)?, stderr, best: false })
}

/// Marks the best scores, all of them where several are equal; a score alone is not the best of anything.
fn mark_best(scores: &mut [Option<Score>], higher_is_better: bool) {
    let values = || scores.iter().flatten().map(|score| score.value).filter(|value| !value.is_nan());
    if values().count() < 2 {
        return;
    }
    let best = if higher_is_better { values().max_by(f64::total_cmp) } else { values().min_by(f64::total_cmp) };
    for score in scores.iter_mut().flatten() {
        score.best = Some(score.value) == best;
    }
}

fn difference(score: Score, other: Score) -> Difference {
    let stderr = score.stderr.zip(other.stderr).map(|(one, two)| one.hypot(two));
    Difference { value: score.value - other.value, stderr }
}

fn from_paper(evaluations: &[(String, Evaluation)]) -> Vec<FromPaper> {
    let of_model = |(model, (_, evaluation)): (usize, &(String, Evaluation))| {
        let billions = evaluation.model.parameters as f64 / 1e9;
        let apart = |row: &&PaperRow| (row.billions / billions).ln().abs();
        let paper = crate::report::paper::ROWS
            .iter()
            .filter(|row| row.family == Family::Rwkv4)
            .min_by(|a, b| apart(a).total_cmp(&apart(b)))
            .filter(|row| apart(row) < SAME_SIZE.ln_1p())?;
        let differences = COLUMNS.map(|(task, metric)| {
            let score = score(evaluation, task, metric)?;
            Some(Difference { value: score.value - paper.score(task, metric)?, stderr: score.stderr })
        });
        let differences = differences.to_vec();
        differences.iter().any(Option::is_some).then(|| FromPaper { model, paper: paper.label(), differences })
    };
    evaluations.iter().enumerate().filter_map(of_model).collect()
}

fn paper_rows<S: serde::Serializer>(rows: &[&'static PaperRow], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|row| {
        let score = |(task, metric): &(&str, &str)| {
            serde_json::json!({"task": task, "metric": metric, "value": row.score(task, metric)})
        };
        serde_json::json!({
            "model": row.label(),
            "billions": row.billions,
            "note": row.note,
            "source": row.source,
            "scores": COLUMNS.iter().map(score).collect::<Vec<_>>(),
        })
    }))
}
