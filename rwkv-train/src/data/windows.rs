//! Windows of a token stream: random ones to learn from, and all of them in order to measure.

use super::Batch;
use crate::error::{Error, Result};
use chacha20::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// A token stream seen through windows of `ctx_len + 1` tokens: inputs are the first `ctx_len`, targets the last.
///
/// # Example
/// ```
/// use rwkv_train::data::Windows;
/// let windows = Windows::new("the text", (0..100).collect(), 8).unwrap();
/// // A batch follows from the seed and the step alone, so training resumes by arithmetic.
/// assert_eq!(windows.random(1, 5, 4).inputs, windows.random(1, 5, 4).inputs);
/// assert_eq!(windows.count(), 12);
/// ```
#[derive(Debug, Clone)]
pub struct Windows {
    tokens: Arc<Vec<u32>>,
    ctx_len: usize,
}

impl Windows {
    /// Windows of `tokens`; `what` names the stream in errors.
    ///
    /// # Errors
    /// [`Error::TooShort`] when not even one window fits; [`rwkv_core::error::Error::Config`] for a length of zero.
    pub fn new(what: &'static str, tokens: Vec<u32>, ctx_len: usize) -> Result<Self> {
        if ctx_len == 0 {
            return Err(rwkv_core::error::Error::config("ctx_len", "a positive number", 0).into());
        }
        if tokens.len() <= ctx_len {
            return Err(Error::TooShort { what, tokens: tokens.len(), ctx_len });
        }
        Ok(Self { tokens: Arc::new(tokens), ctx_len })
    }

    /// Tokens in the stream.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Inputs per window.
    #[must_use]
    pub fn ctx_len(&self) -> usize {
        self.ctx_len
    }

    /// How many windows the stream has without overlap.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.tokens.len() - 1) / self.ctx_len
    }

    /// `batch_size` windows at uniformly random places, a pure function of `seed` and `index`.
    #[must_use]
    pub fn random(&self, seed: u64, index: u64, batch_size: usize) -> Batch {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let last = self.tokens.len() - self.ctx_len - 1;
        self.batch((0..batch_size).map(|_| rng.random_range(0..=last)))
    }

    /// `limit` of the windows without overlap, evenly spread, in order and in batches; all of them where there are
    /// fewer.
    pub fn sequential(&self, limit: usize, batch_size: usize) -> impl Iterator<Item = Batch> + '_ {
        let count = self.count();
        let taken = limit.min(count);
        (0..taken).step_by(batch_size.max(1)).map(move |first| {
            let end = (first + batch_size).min(taken);
            self.batch((first..end).map(|i| i * count / taken * self.ctx_len))
        })
    }

    fn batch(&self, starts: impl Iterator<Item = usize>) -> Batch {
        let mut batch = Batch { inputs: Vec::new(), targets: Vec::new(), ctx_len: self.ctx_len };
        for start in starts {
            batch.inputs.extend_from_slice(&self.tokens[start..start + self.ctx_len]);
            batch.targets.extend_from_slice(&self.tokens[start + 1..start + 1 + self.ctx_len]);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(len: u32, ctx_len: usize) -> Windows {
        Windows::new("the text", (0..len).collect(), ctx_len).expect("long enough")
    }

    #[test]
    fn targets_are_the_inputs_one_token_later() {
        let batch = windows(50, 7).random(3, 0, 5);
        assert_eq!(batch.inputs.len(), 35);
        assert!(batch.inputs.iter().zip(&batch.targets).all(|(x, y)| x + 1 == *y));
    }

    #[test]
    fn random_windows_reach_both_ends_and_differ_by_index() {
        let windows = windows(12, 4);
        let starts: Vec<u32> =
            (0..300).flat_map(|i| windows.random(0, i, 2).inputs.chunks(4).map(|w| w[0]).collect::<Vec<_>>()).collect();
        assert_eq!(starts.iter().min(), Some(&0));
        assert_eq!(starts.iter().max(), Some(&7));
        assert_ne!(windows.random(0, 0, 8).inputs, windows.random(0, 1, 8).inputs);
        assert_ne!(windows.random(0, 0, 8).inputs, windows.random(1, 0, 8).inputs);
    }

    #[test]
    fn sequential_windows_cover_the_stream_once() {
        let windows = windows(50, 7);
        let seen: Vec<u32> = windows.sequential(usize::MAX, 3).flat_map(|batch| batch.inputs).collect();
        assert_eq!(seen, (0..49).collect::<Vec<_>>());
        let some: Vec<u32> = windows.sequential(3, 2).flat_map(|batch| batch.inputs).collect();
        assert_eq!(some.len(), 21);
    }

    #[test]
    fn a_stream_of_one_window_is_enough_and_less_is_not() {
        assert_eq!(windows(5, 4).count(), 1);
        assert!(Windows::new("the text", vec![0; 4], 4).is_err());
        assert!(Windows::new("the text", vec![0; 4], 0).is_err());
    }
}
