//! Windows of a token stream: in an order to learn from, and all of them to measure.

use super::order::Starts;
use super::{Order, Sample, Samples, Tokens};
use crate::error::{Error, Result};
use std::sync::Arc;

/// How a token stream becomes windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Inputs per window.
    pub ctx_len: usize,
    /// In which order training goes through the windows.
    pub order: Order,
    /// Whether the model starts anew where a document begins inside a window. The token before such a place then does not
    /// learn to predict the document's first token, which it cannot know: that target's weight is 0. Windows are cut at
    /// the same places either way, and the official trainer does not do this.
    pub document_reset: bool,
    /// Seeds the orders that are random.
    pub seed: u64,
}

impl WindowOptions {
    /// Random windows that take no notice of documents.
    #[must_use]
    pub fn new(ctx_len: usize, seed: u64) -> Self {
        Self { ctx_len, order: Order::Random, document_reset: false, seed }
    }
}

/// A token stream seen through windows of `ctx_len + 1` tokens: inputs are the first `ctx_len`, targets the last.
///
/// # Example
/// ```
/// use rwkv_train::data::{Order, Samples, WindowOptions, Windows};
/// let tokens: Vec<u32> = (0..100).collect();
/// let windows = Windows::new("the text", tokens.clone(), WindowOptions::new(8, 1)).unwrap();
/// // A sample follows from the seed and its number alone, so training resumes by arithmetic.
/// assert_eq!(windows.sample(5), windows.sample(5));
/// assert_eq!(windows.len(), 12);
///
/// let options = WindowOptions { order: Order::Sequential, document_reset: true, ..WindowOptions::new(8, 1) };
/// let windows = Windows::new("the text", rwkv_train::data::Tokens::from(tokens).with_end_of_document(10), options).unwrap();
/// // Token 11 begins a document: it is input 3 of the window of the tokens 8 to 16, and target 2.
/// let sample = windows.sample(1);
/// assert_eq!((sample.resets, sample.weights.unwrap()[..4].to_vec()), (vec![3], vec![1.0, 1.0, 0.0, 1.0]));
/// ```
#[derive(Debug, Clone)]
pub struct Windows {
    what: &'static str,
    tokens: Tokens,
    options: WindowOptions,
    starts: Starts,
}

impl Windows {
    /// Windows of `tokens`; `what` names the stream in errors.
    ///
    /// # Errors
    /// [`Error::TooShort`] when not even one window fits, [`Error::NoMagicPrime`] when too few for that order;
    /// [`rwkv_core::error::Error::Config`] for a length of zero.
    pub fn new(what: &'static str, tokens: impl Into<Tokens>, options: WindowOptions) -> Result<Self> {
        let (tokens, WindowOptions { ctx_len, order, seed, .. }) = (tokens.into(), options);
        if ctx_len == 0 {
            return Err(rwkv_core::error::Error::config("ctx_len", "a positive number", 0).into());
        }
        if tokens.len() <= ctx_len {
            return Err(Error::TooShort { what, tokens: tokens.len(), ctx_len });
        }
        let starts = Starts::new(order, tokens.len(), ctx_len, seed)?;
        Ok(Self { what, tokens, options, starts })
    }

    /// The stream.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn at(&self, start: usize) -> Sample {
        let ctx_len = self.options.ctx_len;
        let mut sample = Sample::plain(self.tokens.get(start, ctx_len + 1));
        if self.options.document_reset {
            for begin in self.tokens.document_starts(start + 1, start + ctx_len + 1) {
                let position = begin - start;
                sample.weights.get_or_insert_with(|| vec![1.0; ctx_len])[position - 1] = 0.0;
                if position < ctx_len {
                    sample.resets.push(position);
                }
            }
        }
        sample
    }
}

impl Samples for Windows {
    fn ctx_len(&self) -> usize {
        self.options.ctx_len
    }

    fn sample(&self, index: u64) -> Sample {
        self.at(self.starts.get(index))
    }

    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>> {
        let options = WindowOptions { ctx_len, ..self.options };
        Ok(Arc::new(Self::new(self.what, self.tokens.clone(), options)?))
    }

    fn len(&self) -> usize {
        (self.tokens.len() - 1) / self.options.ctx_len
    }

    fn in_order(&self, i: usize) -> Sample {
        self.at(i * self.options.ctx_len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_order;
    use super::*;
    use crate::data::{TokenFileWriter, TokenType};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn stream(len: u32, options: WindowOptions) -> Windows {
        Windows::new("the text", (0..len).collect::<Vec<_>>(), options).expect("long enough")
    }

    fn windows(len: u32, ctx_len: usize) -> Windows {
        stream(len, WindowOptions::new(ctx_len, 0))
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
        let other = stream(12, WindowOptions::new(4, 1));
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
        assert!(Windows::new("the text", vec![0; 4], WindowOptions::new(4, 0)).is_err());
        assert!(Windows::new("the text", vec![0; 4], WindowOptions::new(0, 0)).is_err());
    }

    #[test]
    fn orders_without_overlap_take_every_window_once_a_pass() {
        for order in [Order::Shuffled, Order::Sequential] {
            let windows = stream(205, WindowOptions { order, ..WindowOptions::new(4, 7) });
            let pass = |pass: u64| -> Vec<u32> { (0..51).map(|i| windows.sample(51 * pass + i).tokens[0]).collect() };
            let sorted: Vec<u32> = (0..51).map(|i| 4 * i).collect();
            let (first, second) = (pass(0), pass(1));
            for mut pass in [first.clone(), second.clone()] {
                pass.sort_unstable();
                assert_eq!(pass, sorted, "{order:?}");
            }
            assert_eq!(order == Order::Sequential, first == sorted);
            assert_eq!(order == Order::Sequential, first == second, "another order every pass");
            let other = stream(205, WindowOptions { order, ..WindowOptions::new(4, 8) });
            assert_eq!(order == Order::Sequential, other.batch(0, 51) == windows.batch(0, 51));
        }
    }

    #[test]
    fn the_official_order_begins_at_its_number_one() {
        let windows = stream(4 * 1013 + 2, WindowOptions { order: Order::MagicPrime, ..WindowOptions::new(4, 0) });
        let prime = crate::data::MagicPrime::new(4 * 1013 + 2, 4).expect("1013 is one");
        assert_eq!(prime.prime, 1013);
        for index in [0, 1, 2, 1011, 1012, 1013] {
            assert_eq!(u64::from(windows.sample(index).tokens[0]), prime.offset(index + 1), "{index}");
        }
        assert!(windows.with_ctx_len(300).is_err(), "13 places are too few");
    }

    proptest! {
        #[test]
        fn resets_are_where_a_scan_finds_them(
            documents in vec(vec(1_u32..9, 0..12), 1..12), ctx_len in 1_usize..20, from in 0_usize..30, in_file: bool,
        ) {
            // Every document ends in 0, and nothing else is 0.
            let documents: Vec<Vec<u32>> = documents.into_iter().map(|mut ids| { ids.push(0); ids }).collect();
            let ids = documents.concat();
            let folder = tempfile::tempdir().expect("a folder");
            let whole = if in_file {
                let prefix = folder.path().join("corpus");
                let mut writer = TokenFileWriter::create(&prefix, TokenType::U16).expect("new");
                documents.iter().for_each(|document| writer.push(document).expect("small"));
                writer.finish().expect("written");
                Tokens::open(&prefix).expect("just written")
            } else {
                Tokens::from(ids.clone()).with_end_of_document(0)
            };
            let from = from.min(ids.len());
            let (part, ids) = (whole.slice(from..ids.len()), &ids[from..]);
            let options = WindowOptions { document_reset: true, ..WindowOptions::new(ctx_len, 1) };
            let Ok(windows) = Windows::new("the text", part, options) else {
                prop_assert!(ids.len() <= ctx_len);
                return Ok(());
            };
            for start in 0..ids.len() - ctx_len {
                let sample = windows.at(start);
                prop_assert_eq!(&sample.tokens, &ids[start..=start + ctx_len]);
                let inputs = &sample.tokens[..ctx_len];
                let resets: Vec<usize> = (1..ctx_len).filter(|&i| inputs[i - 1] == 0).collect();
                prop_assert_eq!(&sample.resets, &resets);
                let weights: Vec<f32> = inputs.iter().map(|&id| if id == 0 { 0.0 } else { 1.0 }).collect();
                prop_assert_eq!(sample.weights.unwrap_or_else(|| vec![1.0; ctx_len]), weights);
            }
        }
    }
}
