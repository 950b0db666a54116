//! Text as token streams, and samples of them.

mod batch;
pub mod instructions;
mod order;
mod sample;
mod windows;

pub use batch::Batch;
pub use order::Order;
pub use sample::{Sample, Samples, in_order};
pub use windows::Windows;

use crate::error::{Error, Result};
use rwkv_core::tokenizer::Tokenizer;
use std::sync::Arc;

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
    /// [`Error::TooShort`] when a part has no whole window.
    pub fn split(tokens: &[u32], val_fraction: f64, ctx_len: usize, seed: u64) -> Result<Self> {
        let train = (tokens.len() as f64 * (1.0 - val_fraction)) as usize;
        let (train, val) = tokens.split_at(train.min(tokens.len()));
        Self::from_parts(train.to_vec(), val.to_vec(), ctx_len, seed)
    }

    /// A training stream and a held-out stream.
    ///
    /// # Errors
    /// [`Error::TooShort`] when a part has no whole window.
    pub fn from_parts(train: Vec<u32>, val: Vec<u32>, ctx_len: usize, seed: u64) -> Result<Self> {
        Ok(Self {
            train: Arc::new(Windows::new("the training text", train, ctx_len, seed)?),
            val: Arc::new(Windows::new("the held-out text", val, ctx_len, seed)?),
        })
    }
}

/// Tokens of a text; a convenience for [`Dataset`].
///
/// # Errors
/// As [`Tokenizer::encode`].
pub fn encode(tokenizer: &dyn Tokenizer, text: &str) -> Result<Vec<u32>> {
    tokenizer.encode(text).map_err(Error::from)
}
