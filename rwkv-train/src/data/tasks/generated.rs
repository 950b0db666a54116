//! Puzzles by number, as samples.

use super::{Generator, Puzzle};
use crate::data::{Sample, Samples};
use crate::error::Result;
use chacha20::ChaCha8Rng;
use rand::SeedableRng;
use rwkv_core::error::Error;
use std::sync::Arc;

/// How many puzzles are said to cover a task, of which there is no end; a validation takes a part of them.
const COVER: usize = 1 << 20;

/// Which of a seed's random streams puzzles come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// To learn from.
    Train,
    /// To measure with. No puzzle comes from a stream of the other split; where few puzzles are possible, the same one
    /// may still be drawn for both.
    HeldOut,
}

/// The puzzles of a task, each a pure function of seed, split and number.
///
/// # Example
/// ```
/// use rwkv_train::data::Samples;
/// use rwkv_train::data::tasks::{Copying, Generated, Split};
/// let copying = Copying { length: 3, ..Copying::default() };
/// let samples = Generated::new(copying, 6, 1, Split::Train).unwrap();
/// let sample = samples.sample(5);
/// assert_eq!(sample, samples.sample(5));
/// // Three tokens, the separator, and the same three tokens; the loss counts those.
/// assert_eq!(sample.tokens[..3], sample.tokens[4..]);
/// assert_eq!(sample.weights.unwrap(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
/// ```
#[derive(Debug, Clone)]
pub struct Generated {
    generator: Arc<dyn Generator>,
    ctx_len: usize,
    seed: u64,
    split: Split,
}

/// Checks a task's numbers, and that they fit into rows of `ctx_len` inputs.
pub(super) fn check(generator: &dyn Generator, ctx_len: usize) -> Result<()> {
    generator.validate()?;
    let needed = generator.min_ctx_len();
    if ctx_len < needed {
        return Err(Error::config("ctx_len", format!("at least {needed}, which the task needs"), ctx_len).into());
    }
    Ok(())
}

impl Generated {
    /// Puzzles of `ctx_len` inputs.
    ///
    /// # Errors
    /// [`Error::Config`] that names the task's key that is out of range, or `ctx_len` where a puzzle does not fit.
    pub fn new(generator: impl Generator + 'static, ctx_len: usize, seed: u64, split: Split) -> Result<Self> {
        Self::of(Arc::new(generator), ctx_len, seed, split)
    }

    /// [`Self::new`] for a generator that others have, too.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(generator: Arc<dyn Generator>, ctx_len: usize, seed: u64, split: Split) -> Result<Self> {
        check(generator.as_ref(), ctx_len)?;
        Ok(Self { generator, ctx_len, seed, split })
    }

    /// What makes the puzzles.
    #[must_use]
    pub fn generator(&self) -> &dyn Generator {
        self.generator.as_ref()
    }

    /// The puzzle of this number.
    #[must_use]
    pub fn puzzle(&self, index: u64) -> Puzzle {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // The highest bit is the split's, and no run comes to the numbers that have it.
        rng.set_stream(match self.split {
            Split::Train => index & (u64::MAX >> 1),
            Split::HeldOut => index | (1 << 63),
        });
        self.generator.puzzle(self.ctx_len, &mut rng)
    }
}

impl Samples for Generated {
    fn ctx_len(&self) -> usize {
        self.ctx_len
    }

    fn sample(&self, index: u64) -> Sample {
        self.puzzle(index).into()
    }

    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>> {
        Ok(Arc::new(Self::of(self.generator.clone(), ctx_len, self.seed, self.split)?))
    }

    fn len(&self) -> usize {
        COVER
    }

    fn in_order(&self, i: usize) -> Sample {
        self.sample(i as u64)
    }

    fn has_answers(&self) -> bool {
        true
    }
}
