//! Text as token streams, instructions, generated tasks; and samples of them.

mod batch;
pub mod instructions;
mod order;
mod sample;
pub mod tasks;
mod token_file;
mod tokens;
mod windows;

pub use batch::Batch;
pub use order::{MagicPrime, Order};
pub use sample::{Sample, Samples, in_order};
pub use token_file::{TokenFile, TokenFileWriter, TokenType, Written};
pub use tokens::Tokens;
pub use windows::{WindowOptions, Windows};

use crate::error::{Error, Result};
use rwkv_core::tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;
use tasks::{Generated, Generator, Split};

/// What the model learns from, and what it is measured on.
#[derive(Clone)]
pub struct Dataset {
    /// What the model learns from.
    pub train: Arc<dyn Samples>,
    /// What its validation loss is measured on.
    pub val: Arc<dyn Samples>,
}

impl Dataset {
    /// Cuts one text in two, in order: the last `val_fraction` is held out.
    ///
    /// # Errors
    /// As [`Windows::new`], for either part.
    pub fn split(tokens: impl Into<Tokens>, val_fraction: f64, options: WindowOptions) -> Result<Self> {
        let (train, val) = tokens.into().split(val_fraction);
        Self::from_parts(train, val, options)
    }

    /// A training stream and a held-out stream. The order is that of training; the held-out windows stand in theirs.
    ///
    /// # Errors
    /// As [`Windows::new`], for either part.
    pub fn from_parts(train: impl Into<Tokens>, val: impl Into<Tokens>, options: WindowOptions) -> Result<Self> {
        let measured = WindowOptions { order: Order::Sequential, ..options };
        Ok(Self {
            train: Arc::new(Windows::new("the training text", train, options)?),
            val: Arc::new(Windows::new("the held-out text", val, measured)?),
        })
    }

    /// Puzzles of `ctx_len` inputs of a task, and others of it to measure with.
    ///
    /// # Errors
    /// As [`Generated::new`].
    pub fn of_task(task: Arc<dyn Generator>, ctx_len: usize, seed: u64) -> Result<Self> {
        let of = |split| Generated::of(task.clone(), ctx_len, seed, split);
        Ok(Self { train: Arc::new(of(Split::Train)?), val: Arc::new(of(Split::HeldOut)?) })
    }

    /// Token files for a vocabulary of `vocab_size`: `val` is held out, or without it the last `val_fraction` of `train`.
    /// Every id is checked, once.
    ///
    /// # Errors
    /// As [`TokenFile::open`] and [`Windows::new`]; [`Error::TokenOutside`] for an id that the vocabulary does not reach.
    pub fn from_files(
        train: &Path,
        val: Option<&Path>,
        val_fraction: f64,
        vocab_size: usize,
        options: WindowOptions,
    ) -> Result<Self> {
        let open = |prefix: &Path| {
            let tokens = Tokens::open(prefix)?;
            tokens.check_ids(vocab_size)?;
            Ok::<_, Error>(tokens)
        };
        let train = open(train)?;
        match val {
            Some(val) => Self::from_parts(train, open(val)?, options),
            None => Self::split(train, val_fraction, options),
        }
    }
}

/// Tokens of a text; a convenience for [`Dataset`].
///
/// # Errors
/// As [`Tokenizer::encode`].
pub fn encode(tokenizer: &dyn Tokenizer, text: &str) -> Result<Vec<u32>> {
    tokenizer.encode(text).map_err(Error::from)
}
