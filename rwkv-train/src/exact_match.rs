//! How many answers are right.
//!
//! A model answers with its likeliest token. An answer is a target that counts, of samples that
//! [have answers](Samples::has_answers); a sample is right when all of its answers are.

use crate::data::tasks::Generated;
use crate::data::{Batch, Samples, in_order};
use crate::trainee::Trainee;
use crate::validate::{BATCH, TOKENS};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::loss::{token_nll, value};
use rwkv_core::ops::RwkvBackend;
use std::collections::BTreeMap;

/// Logits per forward pass, at most.
const LOGITS: usize = 1 << 24;

/// Answers that are right, of all.
///
/// # Example
/// ```
/// use rwkv_train::data::{Batch, Sample};
/// use rwkv_train::exact_match::Score;
/// // Two rows; the first target of each does not count.
/// let sample = |tokens: [u32; 4]| Sample { weights: Some(vec![0.0, 1.0, 1.0]), ..Sample::plain(tokens.to_vec()) };
/// let batch = Batch::new([sample([9, 9, 1, 2]), sample([9, 9, 3, 4])].into_iter(), 3);
/// let mut score = Score::default();
/// score.add(&batch, &[0, 1, 2, 0, 3, 5]);
/// assert_eq!((score.accuracy(), score.exact_match()), (0.75, 0.5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Score {
    /// Right answers.
    pub right: usize,
    /// All answers.
    pub answers: usize,
    /// Samples all of whose answers are right.
    pub exact: usize,
    /// All samples.
    pub samples: usize,
}

impl Score {
    /// Takes in what was said after every input of a batch, row by row.
    ///
    /// # Panics
    /// When it is not one token an input.
    pub fn add(&mut self, batch: &Batch, said: &[u32]) {
        assert_eq!(said.len(), batch.targets.len(), "one token an input");
        for row in 0..batch.size() {
            let (mut right, mut answers) = (0, 0);
            for i in row * batch.ctx_len..(row + 1) * batch.ctx_len {
                if batch.weights.as_ref().is_none_or(|weights| weights[i] > 0.0) {
                    answers += 1;
                    right += usize::from(said[i] == batch.targets[i]);
                }
            }
            self.right += right;
            self.answers += answers;
            self.exact += usize::from(right == answers);
            self.samples += 1;
        }
    }

    /// The share of right answers.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.answers as f64
    }

    /// The share of samples without a wrong answer.
    #[must_use]
    pub fn exact_match(&self) -> f64 {
        self.exact as f64 / self.samples as f64
    }
}

/// The loss, as [`crate::validate::validation_loss`] measures it, and the score, in one pass over `limit` of the samples
/// that cover the data.
pub fn measure<B: RwkvBackend>(
    trainee: &Trainee<B>,
    samples: &dyn Samples,
    limit: usize,
    device: &B::Device,
) -> (f64, Score) {
    let (mut sum, mut weight, mut score) = (0.0, 0.0, Score::default());
    for batch in in_order(samples, limit, rows(trainee, samples.ctx_len())) {
        let (loss, said) = answer(trainee, &batch, device);
        sum += loss;
        weight += batch.weight();
        score.add(&batch, &said);
    }
    (sum / weight, score)
}

/// Answers with the same label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labelled {
    /// What they have in common, such as the distance to what has to be remembered
    /// ([`Generator::label`](crate::data::tasks::Generator::label)).
    pub label: usize,
    /// Right answers.
    pub right: usize,
    /// All answers.
    pub answers: usize,
}

/// Right answers to the task's first `limit` puzzles by label, labels in rising order: for
/// [`Needle`](crate::data::tasks::Needle) by distance, for [`Copying`](crate::data::tasks::Copying) by place.
///
/// # Example
/// ```
/// # #[cfg(feature = "flex")] {
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_train::data::tasks::{Generated, Needle, Split};
/// use rwkv_train::{exact_match::by_label, trainee::Trainee};
/// let task = Needle { distances: vec![2, 20], ..Needle::default() };
/// let puzzles = Generated::new(task, 32, 0, Split::HeldOut).unwrap();
/// let vocab_size = puzzles.generator().vocab_size();
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(vocab_size, 1, 16), 0, &Default::default());
/// let trainee = Trainee { model, initial_state: None };
/// let of = by_label(&trainee, &puzzles, 100, &Default::default());
/// assert_eq!(of.iter().map(|group| group.label).collect::<Vec<_>>(), [2, 20]);
/// assert_eq!(of.iter().map(|group| group.answers).sum::<usize>(), 100);
/// # }
/// ```
pub fn by_label<B: RwkvBackend>(
    trainee: &Trainee<B>,
    puzzles: &Generated,
    limit: usize,
    device: &B::Device,
) -> Vec<Labelled> {
    let ctx_len = puzzles.ctx_len();
    let rows = rows(trainee, ctx_len);
    let mut groups: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for first in (0..limit).step_by(rows) {
        let of_batch: Vec<_> = (first..limit.min(first + rows)).map(|i| puzzles.puzzle(i as u64)).collect();
        let (_, said) = answer(trainee, &Batch::new(of_batch.iter().cloned().map(Into::into), ctx_len), device);
        for (puzzle, said) in of_batch.iter().zip(said.chunks_exact(ctx_len)) {
            for answer in &puzzle.answers {
                let (right, answers) = groups.entry(answer.label).or_default();
                *right += usize::from(said[answer.at] == answer.token);
                *answers += 1;
            }
        }
    }
    groups.into_iter().map(|(label, (right, answers))| Labelled { label, right, answers }).collect()
}

/// Rows per forward pass.
fn rows<B: RwkvBackend>(trainee: &Trainee<B>, ctx_len: usize) -> usize {
    let vocab_size = trainee.model.config().vocab_size;
    BATCH.min(TOKENS / ctx_len).min(LOGITS / (ctx_len * vocab_size)).max(1)
}

/// The summed loss of a batch, and the likeliest token after every input.
fn answer<B: RwkvBackend>(trainee: &Trainee<B>, batch: &Batch, device: &B::Device) -> (f64, Vec<u32>) {
    let rows = batch.size();
    let (inputs, targets) = batch.tensors::<B>(device);
    let (logits, _) = trainee.model.forward(inputs, trainee.start(rows));
    let said = logits.clone().argmax(2).into_data();
    let mut losses = token_nll(logits, targets);
    if let Some(weights) = &batch.weights {
        let weights = TensorData::new(weights.clone(), [rows, batch.ctx_len]);
        losses = losses * Tensor::from_data(weights, device);
    }
    (value(losses.sum()), said.iter::<u32>().collect())
}
