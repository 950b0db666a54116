//! From log-likelihoods to scores and their standard errors.

use crate::request::Likelihood;
use crate::task::PythonRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Resamples that share a generator.
const CHUNK: usize = 1000;

/// A metric of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The share of documents whose most probable choice is right, or, where there is no choice, whose continuation the model
    /// would have written itself.
    Acc,
    /// The share of documents whose most probable choice is right when each log-likelihood is divided by the choice's length
    /// in Unicode code points.
    AccNorm,
    /// `exp(−mean log-likelihood)`, over documents: per word where a document asks for a word.
    Perplexity,
}

impl Metric {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::Perplexity => "perplexity",
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        self != Self::Perplexity
    }

    /// What a document contributes.
    fn of(self, answered: &Answered<'_>) -> f64 {
        let Answered { likelihoods, gold, lengths } = answered;
        let right = |score: &dyn Fn(usize) -> f64| {
            let scores = (0..likelihoods.len()).map(score);
            f64::from(u8::from(Some(first_largest(scores)) == *gold))
        };
        match self {
            Self::Acc if gold.is_none() => f64::from(u8::from(likelihoods[0].is_greedy)),
            Self::Acc => right(&|i| likelihoods[i].log_likelihood),
            Self::AccNorm => right(&|i| likelihoods[i].log_likelihood / lengths[i] as f64),
            Self::Perplexity => likelihoods[0].log_likelihood,
        }
    }
}

/// A document's answers, and what they are measured by.
#[derive(Debug, Clone)]
pub struct Answered<'a> {
    /// Of its requests.
    pub likelihoods: &'a [Likelihood],
    /// Which one is right.
    pub gold: Option<usize>,
    /// Lengths of the choices.
    pub lengths: &'a [usize],
}

/// Values of the metrics over documents, and their standard errors under `NAME_stderr`, where there are two documents or more.
///
/// The error of a mean is `√(Σ(x−x̄)²/(n−1))/√n`. That of a perplexity is the spread of `resamples` perplexities of documents
/// drawn with replacement, drawn as the reference harness draws them; 0 leaves it out.
///
/// # Panics
/// When there are no documents, or one has no answer.
#[must_use]
pub fn score(metrics: &[Metric], documents: &[Answered<'_>], resamples: usize) -> BTreeMap<String, f64> {
    assert!(!documents.is_empty(), "a score is one of documents");
    let mut scores = BTreeMap::new();
    for &metric in metrics {
        let values: Vec<f64> = documents.iter().map(|document| metric.of(document)).collect();
        let value = mean(&values);
        let (value, error) = match metric {
            Metric::Acc | Metric::AccNorm => (value, Some(deviation(&values) / (values.len() as f64).sqrt())),
            Metric::Perplexity => ((-value).exp(), (resamples > 0).then(|| bootstrap(&values, resamples))),
        };
        scores.insert(metric.name().to_owned(), value);
        if let Some(error) = error.filter(|error| values.len() > 1 && error.is_finite()) {
            scores.insert(format!("{}_stderr", metric.name()), error);
        }
    }
    scores
}

/// The first of the largest: a later one that is as large does not count.
fn first_largest(values: impl Iterator<Item = f64>) -> usize {
    let larger = |best: (usize, f64), (i, value): (usize, f64)| if value > best.1 { (i, value) } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), larger).0
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// The standard deviation of perplexities of resampled documents. Every thousand have a generator of their own, seeded by
/// their number, so the result depends on nothing else.
fn bootstrap(values: &[f64], resamples: usize) -> f64 {
    let chunk = CHUNK.min(resamples);
    let perplexities = (0..resamples / chunk).into_par_iter().flat_map_iter(|seed| {
        let mut random = PythonRandom::new(seed as u64);
        (0..chunk).map(move |_| {
            let sum: f64 = (0..values.len()).map(|_| values[random.choice(values.len())]).sum();
            (-sum / values.len() as f64).exp()
        })
    });
    deviation(&perplexities.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likelihoods(values: &[f64]) -> Vec<Likelihood> {
        values.iter().map(|&log_likelihood| Likelihood { log_likelihood, is_greedy: false }).collect()
    }

    fn scores(documents: &[(&[f64], usize, &[usize])]) -> BTreeMap<String, f64> {
        let answers: Vec<_> = documents.iter().map(|document| likelihoods(document.0)).collect();
        let answered = |(i, document): (usize, &(&[f64], usize, &'static [usize]))| Answered {
            likelihoods: &answers[i],
            gold: Some(document.1),
            lengths: document.2,
        };
        // The lengths of every test are constants.
        let documents: Vec<(&[f64], usize, &'static [usize])> =
            documents.iter().map(|d| (d.0, d.1, Box::leak(d.2.to_vec().into_boxed_slice()) as &[usize])).collect();
        score(&[Metric::Acc, Metric::AccNorm], &documents.iter().enumerate().map(answered).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn the_first_of_equal_choices_counts() {
        let both = |gold| scores(&[(&[-2.0, -2.0], gold, &[3, 3])]);
        assert_eq!((both(0)["acc"], both(0)["acc_norm"]), (1.0, 1.0));
        assert_eq!((both(1)["acc"], both(1)["acc_norm"]), (0.0, 0.0));
    }

    #[test]
    fn acc_norm_divides_by_the_length() {
        let scores = scores(&[(&[-4.0, -5.0], 1, &[4, 10])]);
        assert_eq!((scores["acc"], scores["acc_norm"]), (0.0, 1.0));
        assert!(!scores.contains_key("acc_stderr"), "one document has no spread");
    }

    #[test]
    fn errors_are_those_of_the_harness() {
        // Three of four right: sample variance 0.25, divided by 4.
        let right: (&[f64], usize, &[usize]) = (&[-1.0, -2.0], 0, &[1, 1]);
        let wrong: (&[f64], usize, &[usize]) = (&[-1.0, -2.0], 1, &[1, 1]);
        let scores = scores(&[right, wrong, right, right]);
        assert_eq!(scores["acc"], 0.75);
        assert!((scores["acc_stderr"] - 0.25).abs() < 1e-15);
    }

    /// `bootstrap_stderr(perplexity, xs, 2000)` of lm-evaluation-harness 0.4.13.
    #[test]
    fn resampled_perplexities_are_those_of_the_harness() {
        let values = [-1.0, -2.5, -0.25, -4.0, -3.0];
        let answers: Vec<_> = values.iter().map(|&value| likelihoods(&[value])).collect();
        let documents = answers.iter().map(|answers| Answered { likelihoods: answers, gold: None, lengths: &[1] });
        let scores = score(&[Metric::Perplexity, Metric::Acc], &documents.collect::<Vec<_>>(), 2000);
        assert!((scores["perplexity"] - 2.15f64.exp()).abs() < 1e-12);
        assert!((scores["perplexity_stderr"] - HARNESS).abs() < 1e-12, "{}", scores["perplexity_stderr"]);
        assert_eq!(scores["acc"], 0.0);
    }

    const HARNESS: f64 = 6.686632191883755;
}
