//! Tasks that tell architectures apart in minutes: generated, seeded, and scored by exact match.
//!
//! ```text
//! Task (a value of the configuration) → Puzzle (inputs and answers) → Sample, whose loss counts the answers alone
//! ```
//!
//! A puzzle is a pure function of seed, [`Split`] and number, so a run needs no file and resumes by arithmetic.
//!
//! | task | asks for | answers | ids | chance |
//! |---|---|---|---|---|
//! | [`Mqar`] | the value of a key, for many keys | at every query | `1 + keys + values` | `1/values` |
//! | [`Induction`] | the token that followed an earlier one | 1 | `1 + symbols` | `1/symbols` |
//! | [`Copying`] | a string, once more | `length` | `2 + symbols` | `1/symbols` |
//! | [`SelectiveCopying`] | scattered tokens, in order | `tokens` | `2 + symbols` | `1/symbols` |
//! | [`Parity`] | whether the ones so far are odd in number | at every bit | `2` | `1/2` |
//! | [`ModularArithmetic`] | the value of an expression so far | at every number | `modulus + 3` | `1/modulus` |
//! | [`Needle`] | a value, some distance after it was told | 1 | `2 + keys + values + fillers` | `1/values` |
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Generator`], [`Puzzle`] |
//! | `kind.rs` | [`Task`]: all of them as a value of the configuration |
//! | `generated.rs` | [`Generated`]: puzzles as [`Samples`](super::Samples) |
//! | the others | a task each |
//!
//! Another task is a file with a [`Generator`] and a line in `kind.rs`; one that the configuration need not know is a
//! [`Generator`] alone.

mod copying;
mod generated;
mod induction;
mod kind;
mod modular_arithmetic;
mod mqar;
mod needle;
mod parity;
mod selective_copying;

pub use copying::Copying;
pub use generated::{Generated, Split};
pub use induction::Induction;
pub use kind::Task;
pub use modular_arithmetic::ModularArithmetic;
pub use mqar::Mqar;
pub use needle::Needle;
pub use parity::Parity;
pub use selective_copying::SelectiveCopying;

use super::Sample;
use crate::error::Result;
use rand::Rng;
use rwkv_core::error::Error;
use std::fmt::Debug;

/// The largest number that a size of a task may be; sums of a few of them overflow nothing.
const LARGEST: usize = 1 << 20;

/// What makes the puzzles of a task.
pub trait Generator: Debug + Send + Sync {
    /// How many ids the puzzles and their answers need.
    fn vocab_size(&self) -> usize;

    /// The fewest inputs that hold a puzzle.
    fn min_ctx_len(&self) -> usize;

    /// The share of right answers of a guess that takes every possible answer for equally likely, whatever it reads.
    fn chance(&self) -> f64;

    /// What the labels of answers count.
    fn label(&self) -> &'static str;

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    fn validate(&self) -> Result<()>;

    /// A puzzle of `ctx_len` inputs, of which there are at least [`Self::min_ctx_len`].
    fn puzzle(&self, ctx_len: usize, rng: &mut dyn Rng) -> Puzzle;
}

/// What is read, and what should be said at some places of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Puzzle {
    /// What is read.
    pub inputs: Vec<u32>,
    /// What should be said, in the order of the places.
    pub answers: Vec<Answer>,
}

/// What should be said at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The input after which it is said, counted from 0.
    pub at: usize,
    /// The right answer.
    pub token: u32,
    /// What answers are grouped by, such as the distance to what has to be remembered ([`Generator::label`]).
    pub label: usize,
}

impl From<Puzzle> for Sample {
    /// Targets are the answers, with a weight of 1, and elsewhere the next input, with a weight of 0.
    fn from(Puzzle { inputs, answers }: Puzzle) -> Self {
        let mut targets: Vec<u32> = inputs.iter().skip(1).copied().chain([0]).collect();
        let mut weights = vec![0.0; inputs.len()];
        for Answer { at, token, .. } in answers {
            (targets[at], weights[at]) = (token, 1.0);
        }
        let mut tokens = inputs;
        tokens.extend(targets.last().copied());
        Self { tokens, targets: Some(targets), weights: Some(weights), resets: Vec::new() }
    }
}

/// Checks that a size is one.
fn size(key: &'static str, size: usize, least: usize) -> Result<()> {
    if (least..=LARGEST).contains(&size) {
        return Ok(());
    }
    Err(Error::config(key, format!("a number from {least} to {LARGEST}"), size).into())
}
