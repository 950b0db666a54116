//! Induction: what followed the last time?

use super::{Answer, Generator, Puzzle, size};
use crate::error::Result;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// The trigger, where it is an id of its own.
const TRIGGER: u32 = 0;

/// Random tokens, among them once a trigger; the row ends with the trigger again, and what followed it is to be said.
///
/// ```text
/// inputs   c d a b e c d d a        symbols 1 to S
/// answer                   b
/// ```
///
/// The trigger is an id of its own, 0; or with `any_trigger` a symbol that is drawn anew for every row, occurs in it at
/// these two places only, and is not followed by itself. The first place is uniformly random. Chance is `1/symbols`, or
/// `1/(symbols − 1)` with `any_trigger`. Labels are the tokens from one trigger to the other.
///
/// # Source
/// Olsson et al., "In-context Learning and Induction Heads", arXiv 2209.11895; with a trigger of its own as in Dao et al.,
/// "Hungry Hungry Hippos", arXiv 2212.14052, and Gu and Dao, "Mamba", arXiv 2312.00752.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Induction {
    /// Different symbols.
    pub symbols: usize,
    /// Whether any symbol may be the trigger.
    pub any_trigger: bool,
}

impl Default for Induction {
    fn default() -> Self {
        Self { symbols: 16, any_trigger: false }
    }
}

impl Generator for Induction {
    fn vocab_size(&self) -> usize {
        1 + self.symbols
    }

    fn min_ctx_len(&self) -> usize {
        3
    }

    fn chance(&self) -> f64 {
        1.0 / (self.symbols - usize::from(self.any_trigger)) as f64
    }

    fn label(&self) -> &'static str {
        "tokens from one trigger to the other"
    }

    fn validate(&self) -> Result<()> {
        size("induction.symbols", self.symbols, 2 + usize::from(self.any_trigger))
    }

    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle {
        let symbols = self.symbols as u32;
        let trigger = if self.any_trigger { rng.random_range(1..=symbols) } else { TRIGGER };
        let mut inputs = Vec::with_capacity(ctx_len);
        inputs.resize_with(ctx_len, || match trigger {
            TRIGGER => rng.random_range(1..=symbols),
            // Any symbol but the trigger: those from it on are one further.
            _ => {
                let symbol = rng.random_range(1..symbols);
                symbol + u32::from(symbol >= trigger)
            }
        });
        let (first, at) = (rng.random_range(0..ctx_len - 2), ctx_len - 1);
        (inputs[first], inputs[at]) = (trigger, trigger);
        let answer = Answer { at, token: inputs[first + 1], label: at - first };
        Puzzle { inputs, answers: vec![answer] }
    }
}
