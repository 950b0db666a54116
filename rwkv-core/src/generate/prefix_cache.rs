//! States after prompts that were read before.

use super::prefill::{PREFILL_TOKENS, check_tokens, prefill};
use crate::error::{Error, Result};
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;
use burn::tensor::Tensor;

/// Remembers states after beginnings of prompts, so that a prompt that begins with one of them is read from there on.
///
/// A prompt leaves its state after every 256 tokens and after its last one, there with the logits; so a conversation
/// that grows is read once, and a prompt that comes again is not read at all. [`insert`](Self::insert) adds a beginning
/// that prompts are known to share. A state is as large after a thousand tokens as after one, so what is remembered is
/// bounded by a number of bytes: when they are used up, the beginning that was not used for longest goes.
///
/// A cache belongs to one model, whose states alone fit it. What it hands out is a fork: nothing changes what it
/// remembers. Texts are those without a cache, up to the rounding of reading a prompt in other pieces.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::generate::{Generator, Output, PrefixCache, Sampler};
/// use rwkv_core::model::Rwkv;
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let mut cache = PrefixCache::new(&model, 64 << 20);
/// for prompt in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6]] {
///     let sampler = Sampler::new(1.0, 0.9, 0, 42).unwrap();
///     let generator = Generator::with_cache(&mut cache, prompt, sampler, Output::default()).unwrap();
///     assert_eq!(generator.take(5).count(), 5);
/// }
/// assert_eq!((cache.statistics().hits, cache.statistics().tokens_saved), (1, 4));
/// # }
/// ```
#[derive(Debug)]
pub struct PrefixCache<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    budget: usize,
    entries: Vec<Entry<B>>,
    /// Counts uses, to tell which entry was used last.
    clock: u64,
    statistics: CacheStatistics,
}

/// How a [`PrefixCache`] fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatistics {
    /// Prompts that began with a remembered beginning.
    pub hits: usize,
    /// Prompts that did not.
    pub misses: usize,
    /// Prompt tokens that were not read again.
    pub tokens_saved: usize,
    /// Beginnings that are remembered.
    pub entries: usize,
    /// Bytes of their states, logits and tokens.
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry<B: RwkvBackend> {
    tokens: Vec<u32>,
    state: State<B>,
    /// The last token's logits, where a prompt ended.
    logits: Option<Tensor<B, 2>>,
    used: u64,
}

impl<B: RwkvBackend> Entry<B> {
    fn bytes(&self) -> usize {
        let logits = self.logits.as_ref().map_or(0, |logits| logits.shape().num_elements() * logits.dtype().size());
        self.state.size_bytes() + logits + self.tokens.len() * size_of::<u32>()
    }
}

impl<'a, B: RwkvBackend> PrefixCache<'a, B> {
    /// An empty cache that will hold at most `budget` bytes; [`State::size_bytes`] says what a state takes.
    #[must_use]
    pub fn new(model: &'a Rwkv<B>, budget: usize) -> Self {
        Self { model, budget, entries: Vec::new(), clock: 0, statistics: CacheStatistics::default() }
    }

    /// The model whose states these are.
    #[must_use]
    pub fn model(&self) -> &'a Rwkv<B> {
        self.model
    }

    /// How the cache fared so far.
    #[must_use]
    pub fn statistics(&self) -> CacheStatistics {
        self.statistics
    }

    /// Reads a prompt after the empty state, from the end of the longest remembered beginning on: the last position's
    /// logits, `[1, V]`, and the state after it.
    ///
    /// # Errors
    /// As [`prefill`].
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<(Tensor<B, 2>, State<B>)> {
        check_tokens(tokens, self.model.config().vocab_size)?;
        let (mut read, mut state, mut logits) = (0, self.model.zero_state(1), None::<Tensor<B, 2>>);
        match self.longest(tokens, true) {
            Some(entry) => {
                (read, state) = (entry.tokens.len(), entry.state.clone());
                // Those of a shorter beginning are not the prompt's.
                logits = entry.logits.clone().filter(|_| read == tokens.len());
                self.statistics.hits += 1;
                self.statistics.tokens_saved += read;
            }
            None => self.statistics.misses += 1,
        }
        // The pieces are those of a prompt that is read without the cache, where the beginning allows it.
        for piece in tokens[read..].chunks(PREFILL_TOKENS) {
            let (last, next) = prefill(self.model, state, piece)?;
            read += piece.len();
            let whole = read == tokens.len();
            self.remember(&tokens[..read], next.clone(), whole.then(|| last.clone()));
            (logits, state) = (Some(last), next);
        }
        let logits = logits.ok_or_else(|| Error::config("prompt", "at least one token", "none"))?;
        Ok((logits, state))
    }

    /// The longest remembered beginning of `tokens` that leaves at least one to read: its state and its length. For
    /// rows of a [`BatchGenerator`](super::BatchGenerator), which read the rest.
    pub fn resume(&mut self, tokens: &[u32]) -> Option<(State<B>, usize)> {
        let found = self.longest(tokens, false).map(|entry| (entry.state.clone(), entry.tokens.len()));
        match &found {
            Some((_, length)) => {
                self.statistics.hits += 1;
                self.statistics.tokens_saved += length;
            }
            None => self.statistics.misses += 1,
        }
        found
    }

    /// Remembers the state after `tokens`, as it came from the empty state.
    ///
    /// # Errors
    /// [`Error::Config`] when the state is not of one sequence or there are no tokens, [`Error::UnknownToken`] for an id
    /// outside the vocabulary.
    pub fn insert(&mut self, tokens: &[u32], state: State<B>) -> Result<()> {
        check_tokens(tokens, self.model.config().vocab_size)?;
        if tokens.is_empty() {
            return Err(Error::config("prefix", "at least one token", "none"));
        }
        if state.batch() != 1 {
            return Err(Error::config("state", "one sequence", format!("{} sequences", state.batch())));
        }
        self.remember(tokens, state, None);
        Ok(())
    }

    /// Forgets everything, the statistics included.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.statistics = CacheStatistics::default();
    }

    /// The entry of the longest beginning of `tokens`; all of them may be meant where the logits are known.
    fn longest(&mut self, tokens: &[u32], whole: bool) -> Option<&Entry<B>> {
        self.clock += 1;
        let fits = |entry: &&mut Entry<B>| {
            let shorter = entry.tokens.len() < tokens.len() || (whole && entry.logits.is_some());
            shorter && tokens.starts_with(&entry.tokens)
        };
        let entry = self.entries.iter_mut().filter(fits).max_by_key(|entry| entry.tokens.len())?;
        entry.used = self.clock;
        Some(entry)
    }

    fn remember(&mut self, tokens: &[u32], state: State<B>, logits: Option<Tensor<B, 2>>) {
        self.clock += 1;
        let entry = Entry { tokens: tokens.to_vec(), state, logits, used: self.clock };
        match self.entries.iter_mut().find(|known| known.tokens == tokens) {
            // What is known with logits stays known with them.
            Some(known) if known.logits.is_some() && entry.logits.is_none() => known.used = self.clock,
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        let mut bytes: usize = self.entries.iter().map(Entry::bytes).sum();
        while bytes > self.budget {
            let oldest = (0..self.entries.len()).min_by_key(|&i| self.entries[i].used);
            let Some(oldest) = oldest else { break };
            bytes -= self.entries.swap_remove(oldest).bytes();
        }
        (self.statistics.entries, self.statistics.bytes) = (self.entries.len(), bytes);
    }
}
