//! Text to token ids and back.

mod byte;
mod char;
mod stream;

pub use byte::ByteTokenizer;
pub use char::CharTokenizer;
pub use stream::Utf8Stream;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A tokenizer as a run directory stores it: `tokenizer.json`.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::{CharTokenizer, Tokenizer};
/// let tokenizer = Tokenizer::Char(CharTokenizer::from_text("hello"));
/// assert_eq!(tokenizer.vocab_size(), 4);
/// let ids = tokenizer.encode("hole").unwrap();
/// assert_eq!(tokenizer.decode(&ids).unwrap(), b"hole");
/// assert!(tokenizer.encode("help").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Tokenizer {
    /// One token per byte.
    Byte(ByteTokenizer),
    /// One token per character of a closed vocabulary.
    Char(CharTokenizer),
}

impl Tokenizer {
    /// Ids of `text`.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] for a character outside a closed vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Byte(tokenizer) => Ok(tokenizer.encode(text)),
            Self::Char(tokenizer) => tokenizer.encode(text),
        }
    }

    /// The bytes that `ids` stand for. They need not be whole UTF-8 characters: a stream may end inside one.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        match self {
            Self::Byte(tokenizer) => tokenizer.decode(ids),
            Self::Char(tokenizer) => tokenizer.decode(ids),
        }
    }

    /// How many ids there are.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Byte(_) => ByteTokenizer::VOCAB_SIZE,
            Self::Char(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let tokenizer: Self = serde_json::from_str(&text)
            .map_err(|error| Error::format(path, format!("is not a tokenizer of this library: {error}")))?;
        if let Self::Char(tokenizer) = &tokenizer {
            tokenizer.validate().map_err(|problem| Error::format(path, problem))?;
        }
        Ok(tokenizer)
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_string(self).map_err(|error| Error::format(path, format!("cannot hold it: {error}")))?;
        crate::files::write_atomic(path, text.as_bytes())
    }
}
