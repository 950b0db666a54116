//! Rows of examples.

use super::{Examples, Tokens};
use crate::data::{Sample, Samples};
use crate::error::Result;
use chacha20::ChaCha8Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rwkv_core::error::Error;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What fills the end of a row. Any id would do: it counts nothing, and nothing comes after it.
const PADDING: u32 = 0;
/// The random stream that examples are packed by; passes have the streams of their numbers.
const PACKING: u64 = u64::MAX;

/// Examples packed into rows of `ctx_len + 1` tokens, which come in another order in every pass.
///
/// Examples, in an order that belongs to the seed, go each into the row with the least room that still holds it. They are
/// packed once: since the model starts anew at every example, its neighbours in the row make no difference to it, and
/// passes of equally many rows let a run resume by arithmetic. An example that is longer than a row loses its end, or is
/// left out where nothing to learn stays of it; [`Self::truncated`] and [`Self::left_out`] say how many did.
///
/// # Example
/// ```
/// use rwkv_train::data::Samples;
/// use rwkv_train::data::instructions::{Examples, Instructions, Tokens};
/// let tokens = Tokens { ids: vec![1, 2, 3], learnt: vec![false, true, true] };
/// let examples = Examples { list: vec![tokens.into(); 3], unanswered: 0 };
/// let rows = Instructions::new(&examples, 6, 0).unwrap();
/// assert_eq!(rows.len(), 2);
/// let first = rows.in_order(0);
/// assert_eq!(first.tokens, [1, 2, 3, 1, 2, 3, 0]);
/// assert_eq!(first.weights.unwrap(), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
/// assert_eq!(first.resets, [3]);
/// ```
#[derive(Debug, Clone)]
pub struct Instructions {
    examples: Arc<[Arc<Tokens>]>,
    /// Which examples are in which row.
    rows: Arc<[Vec<usize>]>,
    ctx_len: usize,
    seed: u64,
    truncated: usize,
    left_out: usize,
    /// The order of one pass: that of the last sample that was asked for.
    order: Arc<Mutex<Option<Pass>>>,
}

/// The number of a pass, and its rows in order.
type Pass = (u64, Arc<[usize]>);

impl Instructions {
    /// Packs examples, in an order that belongs to `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] for a length of zero, or one that leaves nothing to learn of any example.
    pub fn new(examples: &Examples, ctx_len: usize, seed: u64) -> Result<Self> {
        Self::pack(examples.list.clone().into(), ctx_len, seed)
    }

    fn pack(examples: Arc<[Arc<Tokens>]>, ctx_len: usize, seed: u64) -> Result<Self> {
        if ctx_len == 0 {
            return Err(Error::config("ctx_len", "a positive number", 0).into());
        }
        let room = ctx_len + 1;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(PACKING);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.shuffle(&mut rng);
        let (mut truncated, mut left_out) = (0, 0);
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut open = BTreeSet::new(); // (room left, row)
        for i in order {
            let Tokens { ids, learnt } = examples[i].as_ref();
            let length = ids.len().min(room);
            // A row's first token is no target.
            if !learnt[..length].iter().skip(1).any(|&learnt| learnt) {
                left_out += 1;
                continue;
            }
            truncated += usize::from(length < ids.len());
            let (left, row) = match open.range((length, 0)..).next().copied() {
                Some(place) => {
                    open.remove(&place);
                    place
                }
                None => {
                    rows.push(Vec::new());
                    (room, rows.len() - 1)
                }
            };
            rows[row].push(i);
            open.insert((left - length, row));
        }
        if rows.is_empty() {
            let expected = format!("room for a part of a reply in one of {} examples", examples.len());
            return Err(Error::config("ctx_len", expected, ctx_len).into());
        }
        let (rows, order) = (rows.into(), Arc::default());
        Ok(Self { examples, rows, ctx_len, seed, truncated, left_out, order })
    }

    /// How many examples lost their end.
    #[must_use]
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// How many examples are in no row, because a row would hold no part of their replies.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The rows of a pass, in its order.
    fn order(&self, pass: u64) -> Arc<[usize]> {
        // Nothing panics while the lock is held, and a half-written order cannot be: it is replaced whole.
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref() {
            Some((of, order)) if *of == pass => order.clone(),
            _ => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(pass);
                let mut order: Vec<usize> = (0..self.rows.len()).collect();
                order.shuffle(&mut rng);
                let order: Arc<[usize]> = order.into();
                *last = Some((pass, order.clone()));
                order
            }
        }
    }
}

impl Samples for Instructions {
    fn ctx_len(&self) -> usize {
        self.ctx_len
    }

    fn sample(&self, index: u64) -> Sample {
        let rows = self.rows.len() as u64;
        self.in_order(self.order(index / rows)[(index % rows) as usize])
    }

    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>> {
        Ok(Arc::new(Self::pack(self.examples.clone(), ctx_len, self.seed)?))
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn in_order(&self, i: usize) -> Sample {
        let room = self.ctx_len + 1;
        let mut tokens = Vec::with_capacity(room);
        let mut weights = Vec::with_capacity(room);
        let mut resets = Vec::new();
        for &example in &self.rows[i] {
            let Tokens { ids, learnt } = self.examples[example].as_ref();
            // The place of the last token is no input.
            if (1..self.ctx_len).contains(&tokens.len()) {
                resets.push(tokens.len());
            }
            let length = ids.len().min(room);
            // An example's first token comes from nowhere, whatever it is.
            weights
                .extend(learnt[..length].iter().enumerate().map(|(i, &learnt)| f32::from(u8::from(learnt && i > 0))));
            tokens.extend_from_slice(&ids[..length]);
        }
        tokens.resize(room, PADDING);
        weights.resize(room, 0.0);
        weights.remove(0); // of the first token, which is no target
        Sample { tokens, targets: None, weights: Some(weights), resets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Examples of these lengths; number `i` consists of the id `i + 1`, and all but its first token are learnt.
    fn examples(lengths: &[usize]) -> Examples {
        let tokens = |(i, &length): (usize, &usize)| {
            Arc::new(Tokens { ids: vec![i as u32 + 1; length], learnt: (0..length).map(|at| at > 0).collect() })
        };
        Examples { list: lengths.iter().enumerate().map(tokens).collect(), unanswered: 0 }
    }

    const LENGTHS: [usize; 12] = [5, 3, 9, 2, 4, 4, 7, 30, 2, 2, 8, 3];

    #[test]
    fn every_example_is_in_one_row_whole_and_starts_anew() {
        let rows = Instructions::new(&examples(&LENGTHS), 9, 1).expect("packs");
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        for i in 0..rows.len() {
            let Sample { tokens, weights, resets, .. } = rows.in_order(i);
            let weights = weights.expect("weights");
            assert_eq!((tokens.len(), weights.len()), (10, 9));
            let mut starts = vec![];
            for at in 0..10 {
                let begins = at == 0 || tokens[at] != tokens[at - 1];
                if begins && at > 0 && at < 9 && tokens[at] != PADDING {
                    starts.push(at);
                }
                if at > 0 {
                    let counts = tokens[at] != PADDING && !begins;
                    assert_eq!(weights[at - 1], f32::from(u8::from(counts)), "{tokens:?} {weights:?}");
                }
                if tokens[at] != PADDING {
                    *seen.entry(tokens[at]).or_default() += 1;
                }
            }
            assert_eq!(resets, starts, "{tokens:?}");
        }
        let expected: BTreeMap<u32, usize> = (1..).zip(LENGTHS.map(|length| length.min(10))).collect();
        assert_eq!(seen, expected, "one lost its end");
        assert_eq!((rows.truncated(), rows.left_out()), (1, 0));
        // 59 tokens need 6 rows of 10 at least.
        assert!(rows.len() <= 7, "{} rows", rows.len());
    }

    #[test]
    fn a_pass_is_every_row_once_in_an_order_of_its_own() {
        let rows = Instructions::new(&examples(&LENGTHS), 9, 1).expect("packs");
        let count = rows.len() as u64;
        let pass = |number: u64| (0..count).map(|i| rows.sample(number * count + i)).collect::<Vec<_>>();
        let sorted = |mut samples: Vec<Sample>| {
            samples.sort_by(|x, y| x.tokens.cmp(&y.tokens));
            samples
        };
        let in_order: Vec<Sample> = (0..rows.len()).map(|i| rows.in_order(i)).collect();
        assert_eq!(sorted(pass(0)), sorted(in_order));
        assert_eq!(sorted(pass(1)), sorted(pass(0)));
        assert!((1..4).any(|number| pass(number) != pass(0)));
        // A sample follows from its number, whatever was asked for before.
        let again = Instructions::new(&examples(&LENGTHS), 9, 1).expect("packs");
        let last = rows.sample(3 * count + 1);
        assert_eq!(again.sample(3 * count + 1), last);
        assert_eq!(rows.sample(0), again.sample(0));
    }

    #[test]
    fn another_length_packs_anew() {
        let rows = Instructions::new(&examples(&LENGTHS), 9, 1).expect("packs");
        let longer = rows.with_ctx_len(99).expect("packs");
        assert_eq!(longer.len(), 1);
        assert_eq!(
            longer.in_order(0).tokens.iter().filter(|&&id| id != PADDING).count(),
            LENGTHS.iter().sum::<usize>()
        );
        assert_eq!(rows.with_ctx_len(9).expect("packs").in_order(0), rows.in_order(0));
    }

    #[test]
    fn what_leaves_nothing_to_learn_is_left_out_or_refused() {
        let prompt = Tokens { ids: vec![7; 20], learnt: (0..20).map(|at| at >= 12).collect() };
        let mut some = examples(&[4]);
        some.list.push(Arc::new(prompt));
        assert_eq!(Instructions::new(&some, 15, 0).expect("packs").left_out(), 0);
        let short = Instructions::new(&some, 11, 0).expect("packs");
        assert_eq!((short.left_out(), short.truncated(), short.len()), (1, 0, 1));
        some.list.remove(0);
        let said = Instructions::new(&some, 11, 0).expect_err("nothing").to_string();
        assert!(said.contains("ctx_len") && said.contains("11"), "{said}");
        assert!(Instructions::new(&some, 0, 0).is_err());
    }
}
