//! Copying a string.

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// The id that fills the end of a row.
const PADDING: u32 = 0;
/// The id between a string and its copy.
const SEPARATOR: u32 = 1;

/// A random string, a separator, and the string once more.
///
/// ```text
/// inputs   a b c d | a b c _ _        symbols 2 to S + 1, separator 1, padding 0
/// answers          a b c d
/// ```
///
/// The model reads the copy as far as it has come, whatever it said. Chance is `1/symbols`. Labels are the places in the
/// string, from 1.
///
/// # Source
/// Graves et al., "Neural Turing Machines", arXiv 1410.5401, §4.1; Jelassi et al., "Repeat After Me: Transformers are Better
/// than State Space Models at Copying", arXiv 2402.01032.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Copying {
    /// Symbols of a string.
    pub length: usize,
    /// Different symbols.
    pub symbols: usize,
}

impl Default for Copying {
    fn default() -> Self {
        Self { length: 16, symbols: 16 }
    }
}

impl Generator for Copying {
    fn vocab_size(&self) -> usize {
        2 + self.symbols
    }

    fn min_ctx_len(&self) -> usize {
        2 * self.length
    }

    fn chance(&self) -> f64 {
        1.0 / self.symbols as f64
    }

    fn label(&self) -> &'static str {
        "place in the string"
    }

    fn validate(&self) -> Result<()> {
        size("copying.length", self.length, 1)?;
        size("copying.symbols", self.symbols, 2)
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let string: Vec<u32> = (0..self.length).map(|_| 2 + rng.random_range(0..self.symbols) as u32).collect();
        let mut inputs = [&string[..], &[SEPARATOR], &string[..self.length - 1]].concat();
        inputs.resize(ctx_len, PADDING);
        let answer = |(i, &token)| Answer { at: self.length + i, token, label: i + 1 };
        Puzzle { inputs, answers: string.iter().enumerate().map(answer).collect() }
    }
}
