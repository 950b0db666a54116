//! The tokenizer that a file holds, whichever it is.

use super::{ByteTokenizer, CharTokenizer, NeoxTokenizer, Tokenizer, WorldTokenizer};
use crate::error::{Error, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Any tokenizer of this library, with its files.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::{AnyTokenizer, CharTokenizer, Tokenizer};
/// let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("tokenizer.json");
/// AnyTokenizer::from(CharTokenizer::from_text("hello")).save(&file).unwrap();
/// let tokenizer = AnyTokenizer::load(&file).unwrap();
/// assert_eq!((tokenizer.name(), tokenizer.vocab_size()), ("char", 4));
/// ```
#[derive(Debug, Clone)]
pub enum AnyTokenizer {
    /// One token per byte.
    Byte(ByteTokenizer),
    /// One token per character of a closed vocabulary.
    Char(CharTokenizer),
    /// The byte-level BPE of the Pile and Raven models.
    Neox(Box<NeoxTokenizer>),
    /// The vocabulary of the World models.
    World(WorldTokenizer),
}

/// The `tokenizer.json` of small experiments, as run directories hold it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Stored<Chars> {
    Byte(ByteTokenizer),
    Char(Chars),
}

/// Tells a Hugging Face `tokenizer.json` from ours.
#[derive(Deserialize)]
struct Probe {
    model: Option<IgnoredAny>,
}

impl AnyTokenizer {
    /// Reads a tokenizer file. Its content says which it is: a `tokenizer.json` of this library, a Hugging Face
    /// `tokenizer.json` with a byte-level BPE (`20B_tokenizer.json`), or a World vocabulary (`rwkv_vocab_v20230424.txt`).
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] that says what is wrong and, in a vocabulary, on which line.
    pub fn load(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).map_err(Error::io("read", path))?;
        match file.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Self::from_json(path, &file),
            Some(b'0'..=b'9') => Ok(Self::World(WorldTokenizer::from_file(path, &file)?)),
            _ => Err(Error::format(path, "is no tokenizer: neither a tokenizer.json nor a World vocabulary")),
        }
    }

    fn from_json(path: &Path, json: &[u8]) -> Result<Self> {
        let bad = |error| Error::format(path, format!("is not a tokenizer of this library: {error}"));
        let probe: Probe = serde_json::from_slice(json).map_err(bad)?;
        if probe.model.is_some() {
            return Ok(Self::Neox(Box::new(NeoxTokenizer::from_file(path, json)?)));
        }
        match serde_json::from_slice(json).map_err(bad)? {
            Stored::Byte(tokenizer) => Ok(Self::Byte(tokenizer)),
            Stored::Char(tokenizer) => {
                let tokenizer: CharTokenizer = tokenizer;
                tokenizer.validate().map_err(|problem| Error::format(path, problem))?;
                Ok(Self::Char(tokenizer))
            }
        }
    }

    /// Writes a file that [`Self::load`] reads: JSON, or for a World vocabulary its text form.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] when the tokenizer has no such form.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bad = |error| Error::format(path, format!("cannot hold the tokenizer: {error}"));
        let text = match self {
            Self::Byte(tokenizer) => serde_json::to_string(&Stored::<CharTokenizer>::Byte(*tokenizer)).map_err(bad)?,
            Self::Char(tokenizer) => serde_json::to_string(&Stored::Char(tokenizer)).map_err(bad)?,
            Self::Neox(tokenizer) => tokenizer.to_json()?,
            Self::World(tokenizer) => tokenizer.to_text(),
        };
        crate::files::write_atomic(path, text.as_bytes())
    }

    fn inner(&self) -> &dyn Tokenizer {
        match self {
            Self::Byte(tokenizer) => tokenizer,
            Self::Char(tokenizer) => tokenizer,
            Self::Neox(tokenizer) => tokenizer.as_ref(),
            Self::World(tokenizer) => tokenizer,
        }
    }
}

impl Tokenizer for AnyTokenizer {
    fn name(&self) -> &'static str {
        self.inner().name()
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.inner().encode(text)
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        self.inner().decode(ids)
    }

    fn vocab_size(&self) -> usize {
        self.inner().vocab_size()
    }

    fn end_of_text(&self) -> Option<u32> {
        self.inner().end_of_text()
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.inner().encode_prompt(text)
    }
}

impl From<ByteTokenizer> for AnyTokenizer {
    fn from(tokenizer: ByteTokenizer) -> Self {
        Self::Byte(tokenizer)
    }
}

impl From<CharTokenizer> for AnyTokenizer {
    fn from(tokenizer: CharTokenizer) -> Self {
        Self::Char(tokenizer)
    }
}

impl From<NeoxTokenizer> for AnyTokenizer {
    fn from(tokenizer: NeoxTokenizer) -> Self {
        Self::Neox(Box::new(tokenizer))
    }
}

impl From<WorldTokenizer> for AnyTokenizer {
    fn from(tokenizer: WorldTokenizer) -> Self {
        Self::World(tokenizer)
    }
}
