//! A stream of tokens, in memory or in a token file.

use super::TokenFile;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Tokens that one thread checks at a time.
const CHECKED_AT_ONCE: usize = 1 << 20;

/// A stream of tokens, or a part of one; cloning it copies no token.
///
/// # Example
/// ```
/// use rwkv_train::data::Tokens;
/// let tokens = Tokens::from(vec![5, 6, 0, 7, 8, 9]).with_end_of_document(0);
/// let (train, val) = tokens.split(1.0 / 3.0);
/// assert_eq!((train.get(1, 3), val.get(0, 2)), (vec![6, 0, 7], vec![8, 9]));
/// assert_eq!(tokens.document_starts(0, 6), [0, 3]);
/// assert!(tokens.check_ids(9).unwrap_err().to_string().contains("token 9 at offset 5"));
/// ```
#[derive(Debug, Clone)]
pub struct Tokens {
    source: Source,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Source {
    Memory { ids: Arc<Vec<u32>>, end_of_document: Option<u32> },
    File(Arc<TokenFile>),
}

impl From<Vec<u32>> for Tokens {
    fn from(ids: Vec<u32>) -> Self {
        Self { range: 0..ids.len(), source: Source::Memory { ids: Arc::new(ids), end_of_document: None } }
    }
}

impl From<TokenFile> for Tokens {
    fn from(file: TokenFile) -> Self {
        Self { range: 0..file.len(), source: Source::File(Arc::new(file)) }
    }
}

impl Tokens {
    /// The tokens of `PREFIX.bin` and `PREFIX.idx`.
    ///
    /// # Errors
    /// As [`TokenFile::open`].
    pub fn open(prefix: &Path) -> Result<Self> {
        TokenFile::open(prefix).map(Self::from)
    }

    /// Says which token ends a document of a stream in memory; without this it is one document. A token file knows its
    /// documents and takes no notice.
    #[must_use]
    pub fn with_end_of_document(mut self, token: u32) -> Self {
        if let Source::Memory { end_of_document, .. } = &mut self.source {
            *end_of_document = Some(token);
        }
        self
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of the stream.
    ///
    /// # Panics
    /// When it reaches past the stream's end.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "no tokens {range:?} of {}", self.len());
        let start = self.range.start;
        Self { source: self.source.clone(), range: start + range.start..start + range.end }
    }

    /// The stream cut in two, in order: `val_fraction` of it is the second part.
    #[must_use]
    pub fn split(&self, val_fraction: f64) -> (Self, Self) {
        let train = ((self.len() as f64 * (1.0 - val_fraction)) as usize).min(self.len());
        (self.slice(0..train), self.slice(train..self.len()))
    }

    /// `len` tokens from `start` on.
    ///
    /// # Panics
    /// When the stream has not that many.
    #[must_use]
    pub fn get(&self, start: usize, len: usize) -> Vec<u32> {
        assert!(start <= self.len() && len <= self.len() - start, "{len} tokens at {start} of {}", self.len());
        let start = self.range.start + start;
        match &self.source {
            Source::Memory { ids, .. } => ids[start..start + len].to_vec(),
            Source::File(file) => file.get(start, len),
        }
    }

    /// The tokens from `start` to before `end` that begin a document, in rising order.
    ///
    /// # Panics
    /// When the stream ends before `end`.
    #[must_use]
    pub fn document_starts(&self, start: usize, end: usize) -> Vec<usize> {
        assert!(start <= end && end <= self.len(), "no tokens {start}..{end} of {}", self.len());
        let base = self.range.start;
        match &self.source {
            Source::Memory { end_of_document: None, .. } => {
                (base + start == 0 && end > 0).then_some(0).into_iter().collect()
            }
            Source::Memory { ids, end_of_document: Some(last) } => {
                (start..end).filter(|&i| base + i == 0 || ids[base + i - 1] == *last).collect()
            }
            Source::File(file) => file.document_starts(base + start, base + end).map(|i| i - base).collect(),
        }
    }

    /// Checks every id once, on all cores.
    ///
    /// # Errors
    /// [`Error::TokenOutside`] for the first id that is not below `vocab_size`.
    pub fn check_ids(&self, vocab_size: usize) -> Result<()> {
        let found = (0..self.len().div_ceil(CHECKED_AT_ONCE)).into_par_iter().find_map_first(|chunk| {
            let start = chunk * CHECKED_AT_ONCE;
            let ids = self.get(start, CHECKED_AT_ONCE.min(self.len() - start));
            let i = ids.iter().position(|&id| id as usize >= vocab_size)?;
            Some((ids[i], start + i))
        });
        let Some((token, offset)) = found else { return Ok(()) };
        let (place, token) = match &self.source {
            Source::Memory { .. } => ("the text".to_owned(), i64::from(token)),
            // Only an i32 below zero has so high a number.
            Source::File(file) if token > i32::MAX.cast_unsigned() => {
                (file.path().display().to_string(), i64::from(token.cast_signed()))
            }
            Source::File(file) => (file.path().display().to_string(), i64::from(token)),
        };
        Err(Error::TokenOutside { place, token, offset: (self.range.start + offset) as u64, vocab_size })
    }
}
