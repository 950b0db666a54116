//! A needle in a haystack.

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use std::iter::successors;

/// The id before the needle.
const TOLD: u32 = 0;
/// The id before the question.
const ASKED: u32 = 1;
/// Inputs beside the fillers.
const FRAME: usize = 5;

/// A key and its value among random fillers; the row ends with the key again, and the value is to be said.
///
/// ```text
/// inputs   f f f ! k v f f f f f f ? k        ! is 0, ? is 1, then keys, values and fillers
/// answer                             v
///                      └ distance ┘
/// ```
///
/// The distance is drawn from `distances`, or without any from 1, 2, 4, 8, … as far as the row goes. Labels are distances, so
/// that [`crate::exact_match::by_label`] tells how far a model remembers. Chance is `1/values`.
///
/// # Source
/// Kamradt, "Needle in a Haystack", 2023, <https://github.com/gkamradt/LLMTest_NeedleInAHaystack>; among random tokens as the
/// passkeys of Mohtashami and Jaggi, "Landmark Attention", arXiv 2305.16300.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needle {
    /// Different keys.
    pub keys: usize,
    /// Different values.
    pub values: usize,
    /// Different fillers.
    pub fillers: usize,
    /// Fillers between value and question; powers of two when empty.
    pub distances: Vec<usize>,
}

impl Default for Needle {
    fn default() -> Self {
        Self { keys: 16, values: 16, fillers: 32, distances: Vec::new() }
    }
}

impl Generator for Needle {
    fn vocab_size(&self) -> usize {
        2 + self.keys + self.values + self.fillers
    }

    fn min_ctx_len(&self) -> usize {
        FRAME + self.distances.iter().copied().max().unwrap_or(1)
    }

    fn chance(&self) -> f64 {
        1.0 / self.values as f64
    }

    fn label(&self) -> &'static str {
        "tokens between value and question"
    }

    fn validate(&self) -> Result<()> {
        size("needle.keys", self.keys, 1)?;
        size("needle.values", self.values, 2)?;
        size("needle.fillers", self.fillers, 1)?;
        self.distances.iter().try_for_each(|&distance| size("needle.distances", distance, 0))
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let powers = || successors(Some(1), |distance| Some(2 * distance)).take_while(|d| d + FRAME <= ctx_len);
        let distances = if self.distances.is_empty() { powers().collect() } else { self.distances.clone() };
        let distance = *distances.choose(rng).expect("a row holds a distance of 1, by min_ctx_len");
        let mut draw = |before: usize, count: usize| (before + rng.random_range(0..count)) as u32;
        let (key, value) = (draw(2, self.keys), draw(2 + self.keys, self.values));
        let mut inputs: Vec<u32> = (0..ctx_len).map(|_| draw(2 + self.keys + self.values, self.fillers)).collect();
        let told = ctx_len - FRAME - distance;
        inputs[told..told + 3].copy_from_slice(&[TOLD, key, value]);
        inputs[ctx_len - 2..].copy_from_slice(&[ASKED, key]);
        Puzzle { inputs, answers: vec![Answer { at: ctx_len - 1, token: value, label: distance }] }
    }
}
