//! Arithmetic modulo a number.

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// A random expression of numbers, `+`, `−` and `×`; at every number its value so far is to be said, modulo `m`.
///
/// ```text
/// inputs   3 + 4 × 2 − 1 …        numbers 0 to m − 1, + is m, − is m + 1, × is m + 2
/// answers  3   2   1   0 …        m = 5:  3,  3 + 4,  3 + 4·2,  3 + 4·2 − 1
/// ```
///
/// Multiplication binds tighter, so a model has to keep the sum of the terms before, and the term at hand: `m²` states. The
/// model never reads an answer. Numbers and operators are uniformly random; rows end where `ctx_len` does, with the
/// last number if that is odd. Chance is `1/modulus`; since products are often 0, always saying 0 is a little better. Labels
/// are the numbers so far.
///
/// # Source
/// "Modular arithmetic (simple)" of Delétang et al., "Neural Networks and the Chomsky Hierarchy", arXiv 2207.02098, which
/// takes `m = 5` and asks at the end alone, as `final_only` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModularArithmetic {
    /// `m`.
    pub modulus: usize,
    /// Whether there is `×` among the operators.
    pub products: bool,
    /// Whether the last number alone has an answer.
    pub final_only: bool,
}

impl Default for ModularArithmetic {
    fn default() -> Self {
        Self { modulus: 5, products: true, final_only: false }
    }
}

impl Generator for ModularArithmetic {
    fn vocab_size(&self) -> usize {
        self.modulus + 3
    }

    fn min_ctx_len(&self) -> usize {
        1
    }

    fn chance(&self) -> f64 {
        1.0 / self.modulus as f64
    }

    fn label(&self) -> &'static str {
        "numbers so far"
    }

    fn validate(&self) -> Result<()> {
        size("modular-arithmetic.modulus", self.modulus, 2)
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        // Products of two numbers below the modulus need 64 bits.
        let m = self.modulus as u64;
        let (mut before, mut term) = (0, 0);
        let mut operator = 0; // a sum begins
        let mut inputs = Vec::with_capacity(ctx_len);
        let mut answers = Vec::new();
        for at in 0..ctx_len {
            if at % 2 == 1 {
                operator = rng.random_range(0..if self.products { 3 } else { 2 });
                inputs.push((m + operator) as u32);
                continue;
            }
            let number = rng.random_range(0..m);
            (before, term) = match operator {
                0 => ((before + term) % m, number),
                1 => ((before + term) % m, (m - number) % m),
                _ => (before, term * number % m),
            };
            inputs.push(number as u32);
            answers.push(Answer { at, token: ((before + term) % m) as u32, label: at / 2 + 1 });
        }
        if self.final_only {
            answers.drain(..answers.len() - 1);
        }
        Puzzle { inputs, answers }
    }
}
