//! Parity.

use super::{Answer, Generator, Puzzle};
use crate::error::Result;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Random bits; at every one it is to be said whether the ones so far are odd in number.
///
/// ```text
/// inputs   1 0 1 1 0 …
/// answers  1 1 0 1 1 …        the exclusive or of the bits so far
/// ```
///
/// The model never reads an answer, so it has to keep one bit through the whole row. Chance is `1/2`, at every place. Labels
/// are the bits so far.
///
/// # Source
/// "Parity check" of Delétang et al., "Neural Networks and the Chomsky Hierarchy", arXiv 2207.02098, which asks at the end of
/// the string alone, as `final_only` does; answers at every place as in the word problems of Merrill et al., "The
/// Illusion of State in State-Space Models", arXiv 2404.08819, which are learnt sooner.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parity {
    /// Whether the last bit alone has an answer.
    pub final_only: bool,
}

impl Generator for Parity {
    fn vocab_size(&self) -> usize {
        2
    }

    fn min_ctx_len(&self) -> usize {
        1
    }

    fn chance(&self) -> f64 {
        0.5
    }

    fn label(&self) -> &'static str {
        "bits so far"
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let inputs: Vec<u32> = (0..ctx_len).map(|_| u32::from(rng.random::<bool>())).collect();
        let mut parity = 0;
        let answer = |(at, bit): (usize, &u32)| {
            parity ^= bit;
            Answer { at, token: parity, label: at + 1 }
        };
        let mut answers: Vec<Answer> = inputs.iter().enumerate().map(answer).collect();
        if self.final_only {
            answers.drain(..ctx_len - 1);
        }
        Puzzle { inputs, answers }
    }
}
