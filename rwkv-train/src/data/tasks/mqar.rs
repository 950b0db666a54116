//! Multi-query associative recall.

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::seq::{SliceRandom, index};
use rand::{Rng, RngExt};
use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};

/// The id between queries.
const BLANK: u32 = 0;

/// Pairs of a key and a value; later each key again, where its value is to be said.
///
/// ```text
/// inputs   k1 v1 k2 v2 k3 v3  k2 _ _ _ k1 _ k3 _        keys 1 to K, values K + 1 to K + V, blank 0
/// answers                     v2       v1   v3
/// ```
///
/// Keys of a row differ, and so do its values. A query is at the even distance `2g` from the end of the pairs, and the
/// distances are drawn without replacement with `P(g) ∝ (g + 1)^(power − 1)`: most queries come soon. The model never reads
/// an answer. Chance is `1/values`; a model that knows which values a row has, but not whose they are, gets `1/pairs`.
/// Labels are the tokens from a key to its query.
///
/// # Source
/// Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models", arXiv 2312.04927;
/// blanks between queries are 0, as in that work's experiments, or random ids with `noise`, as is its code's default.
/// There, earlier pairs tend to be asked for sooner; here which query is whose is random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqar {
    /// Pairs, and queries, per row.
    pub pairs: usize,
    /// Different keys.
    pub keys: usize,
    /// Different values.
    pub values: usize,
    /// How evenly queries spread over the rest of the row: 1 for evenly, towards 0 the sooner the likelier.
    pub power: f64,
    /// Whether random ids stand between the queries, instead of blanks.
    pub noise: bool,
}

impl Default for Mqar {
    fn default() -> Self {
        Self { pairs: 8, keys: 64, values: 64, power: 0.01, noise: false }
    }
}

impl Generator for Mqar {
    fn vocab_size(&self) -> usize {
        1 + self.keys + self.values
    }

    fn min_ctx_len(&self) -> usize {
        4 * self.pairs
    }

    fn chance(&self) -> f64 {
        1.0 / self.values as f64
    }

    fn label(&self) -> &'static str {
        "tokens from a key to its query"
    }

    fn validate(&self) -> Result<()> {
        size("mqar.pairs", self.pairs, 1)?;
        size("mqar.keys", self.keys, self.pairs)?;
        size("mqar.values", self.values, self.pairs)?;
        if !(0.0..=1.0).contains(&self.power) {
            return Err(Error::config("mqar.power", "a number from 0 to 1", self.power).into());
        }
        Ok(())
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let context = 2 * self.pairs;
        let keys = index::sample(rng, self.keys, self.pairs).into_vec();
        let values = index::sample(rng, self.values, self.pairs).into_vec();
        let pair = |i: usize| ((1 + keys[i]) as u32, (1 + self.keys + values[i]) as u32);
        let mut inputs = vec![BLANK; ctx_len];
        if self.noise {
            inputs.fill_with(|| rng.random_range(0..self.vocab_size()) as u32);
        }
        for i in 0..self.pairs {
            (inputs[2 * i], inputs[2 * i + 1]) = pair(i);
        }
        let weight = |gap: usize| ((gap + 1) as f64).powf(self.power - 1.0);
        let gaps = index::sample_weighted(rng, (ctx_len - context) / 2, weight, self.pairs);
        let mut gaps = gaps.expect("weights from 0 to 1 are good ones").into_vec();
        // Which query is whose must not hang on the order that they were drawn in, which nobody promises.
        gaps.sort_unstable();
        let mut order: Vec<usize> = (0..self.pairs).collect();
        order.shuffle(rng);
        let mut answers = Vec::with_capacity(self.pairs);
        for (gap, i) in gaps.into_iter().zip(order) {
            let at = context + 2 * gap;
            let (key, token) = pair(i);
            inputs[at] = key;
            answers.push(Answer { at, token, label: at - 2 * i });
        }
        Puzzle { inputs, answers }
    }
}
