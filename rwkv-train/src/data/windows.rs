//! Windows of a token stream: random ones to learn from, and all of them in order to measure.

use super::{Sample, Samples};
use crate::error::{Error, Result};
use chacha20::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// A token stream seen through windows of `ctx_len + 1` tokens: inputs are the first `ctx_len`, targets the last.
///
/// # Example
/// ```
/// use rwkv_train::data::{Samples, Windows};
/// let windows = Windows::new("the text", (0..100).collect(), 8, 1).unwrap();
/// // A sample follows from the seed and its number alone, so training resumes by arithmetic.
/// assert_eq!(windows.sample(5), windows.sample(5));
/// assert_eq!(windows.len(), 12);
/// ```
#[derive(Debug, Clone)]
pub struct Windows {
    what: &'static str,
    tokens: Arc<Vec<u32>>,
    ctx_len: usize,
    seed: u64,
}

impl Windows {
    /// Windows of `tokens`, in an order that belongs to `seed`; `what` names the stream in errors.
    ///
    /// # Errors
    /// [`Error::TooShort`] when not even one window fits; [`rwkv_core::error::Error::Config`] for a length of zero.
    pub fn new(what: &'static str, tokens: Vec<u32>, ctx_len: usize, seed: u64) -> Result<Self> {
        Self { what, tokens: Arc::new(tokens), ctx_len, seed }.checked()
    }

    fn checked(self) -> Result<Self> {
        let Self { what, ctx_len, .. } = self;
        if ctx_len == 0 {
            return Err(rwkv_core::error::Error::config("ctx_len", "a positive number", 0).into());
        }
        if self.tokens.len() <= ctx_len {
            return Err(Error::TooShort { what, tokens: self.tokens.len(), ctx_len });
        }
        Ok(self)
    }

    /// Tokens in the stream.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn at(&self, start: usize) -> Sample {
        Sample::plain(self.tokens[start..=start + self.ctx_len].to_vec())
    }
}

impl Samples for Windows {
    fn ctx_len(&self) -> usize {
        self.ctx_len
    }

    fn sample(&self, index: u64) -> Sample {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        self.at(rng.random_range(0..self.tokens.len() - self.ctx_len))
    }

    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>> {
        Ok(Arc::new(Self { ctx_len, ..self.clone() }.checked()?))
    }

    fn len(&self) -> usize {
        (self.tokens.len() - 1) / self.ctx_len
    }

    fn in_order(&self, i: usize) -> Sample {
        self.at(i * self.ctx_len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_order;
    use super::*;

    fn windows(len: u32, ctx_len: usize) -> Windows {
        Windows::new("the text", (0..len).collect(), ctx_len, 0).expect("long enough")
    }

    #[test]
    fn targets_are_the_inputs_one_token_later() {
        let batch = windows(50, 7).batch(0, 5);
        assert_eq!(batch.inputs.len(), 35);
        assert!(batch.inputs.iter().zip(&batch.targets).all(|(x, y)| x + 1 == *y));
    }

    #[test]
    fn random_windows_reach_both_ends_and_differ_by_number_and_seed() {
        let windows = windows(12, 4);
        let starts: Vec<u32> = (0..600).map(|i| windows.sample(i).tokens[0]).collect();
        assert_eq!(starts.iter().min(), Some(&0));
        assert_eq!(starts.iter().max(), Some(&7));
        assert_ne!(windows.batch(0, 8).inputs, windows.batch(8, 8).inputs);
        let other = Windows { seed: 1, ..windows.clone() };
        assert_ne!(windows.batch(0, 8).inputs, other.batch(0, 8).inputs);
    }

    #[test]
    fn however_samples_are_grouped_they_are_the_same() {
        let windows = windows(50, 7);
        let together = windows.batch(4, 4).inputs;
        assert_eq!([windows.batch(4, 2).inputs, windows.batch(6, 2).inputs].concat(), together);
    }

    #[test]
    fn windows_in_order_cover_the_stream_once() {
        let windows = windows(50, 7);
        let seen: Vec<u32> = in_order(&windows, usize::MAX, 3).flat_map(|batch| batch.inputs).collect();
        assert_eq!(seen, (0..49).collect::<Vec<_>>());
        let some: Vec<u32> = in_order(&windows, 3, 2).flat_map(|batch| batch.inputs).collect();
        assert_eq!(some.len(), 21);
    }

    #[test]
    fn a_stream_of_one_window_is_enough_and_less_is_not() {
        assert_eq!(windows(5, 4).len(), 1);
        assert!(windows(5, 4).with_ctx_len(5).is_err());
        assert_eq!(windows(5, 4).with_ctx_len(2).expect("shorter").len(), 2);
        assert!(Windows::new("the text", vec![0; 4], 4, 0).is_err());
        assert!(Windows::new("the text", vec![0; 4], 0, 0).is_err());
    }
}
