//! Copying what matters.

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::seq::index;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// The id between what matters.
const NOISE: u32 = 0;
/// The id that asks for the next token.
const MARKER: u32 = 1;

/// Tokens at random places among noise; then markers, at which the tokens are to be said in order.
///
/// ```text
/// inputs   _ a _ _ b c _ _ _ d ? ? ? ?        symbols 2 to S + 1, marker 1, noise 0
/// answers                      a b c d
/// ```
///
/// The distances between the tokens vary, so that no fixed filter solves it: what matters has to be chosen by content. The
/// model never reads an answer. The noise takes what the row has left. Chance is `1/symbols`. Labels are the places in the
/// order, from 1.
///
/// # Source
/// Jing et al., "Gated Orthogonal Recurrent Units: On Learning to Forget", arXiv 1706.02761 (the denoising task); Gu and Dao,
/// "Mamba", arXiv 2312.00752.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectiveCopying {
    /// Tokens to copy.
    pub tokens: usize,
    /// Different symbols.
    pub symbols: usize,
}

impl Default for SelectiveCopying {
    fn default() -> Self {
        Self { tokens: 8, symbols: 16 }
    }
}

impl Generator for SelectiveCopying {
    fn vocab_size(&self) -> usize {
        2 + self.symbols
    }

    fn min_ctx_len(&self) -> usize {
        2 * self.tokens
    }

    fn chance(&self) -> f64 {
        1.0 / self.symbols as f64
    }

    fn label(&self) -> &'static str {
        "place in the order"
    }

    fn validate(&self) -> Result<()> {
        size("selective-copying.tokens", self.tokens, 1)?;
        size("selective-copying.symbols", self.symbols, 2)
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let read = ctx_len - self.tokens;
        let mut places = index::sample(rng, read, self.tokens).into_vec();
        places.sort_unstable();
        let mut inputs = vec![NOISE; read];
        inputs.resize(ctx_len, MARKER);
        let mut answers = Vec::with_capacity(self.tokens);
        for (i, place) in places.into_iter().enumerate() {
            let token = 2 + rng.random_range(0..self.symbols) as u32;
            inputs[place] = token;
            answers.push(Answer { at: read + i, token, label: i + 1 });
        }
        Puzzle { inputs, answers }
    }
}
