//! One token per byte.

use super::Tokenizer;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bytes as tokens: any text, 256 ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteTokenizer {}

impl ByteTokenizer {
    /// One id per byte value.
    pub const VOCAB_SIZE: usize = 256;
}

impl Tokenizer for ByteTokenizer {
    fn name(&self) -> &'static str {
        "byte"
    }

    /// The text's UTF-8 bytes; never an error.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let byte = |(position, &token): (usize, &u32)| {
            u8::try_from(token).map_err(|_| Error::UnknownToken { token, position, vocab_size: Self::VOCAB_SIZE })
        };
        ids.iter().enumerate().map(byte).collect()
    }

    fn vocab_size(&self) -> usize {
        Self::VOCAB_SIZE
    }
}
