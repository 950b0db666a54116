//! The bytes of every token.

use crate::error::{Error, Result};

/// A table from ids to bytes: all bytes one after the other, and where each token's end.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl TokenBytes {
    /// The next id's bytes.
    pub(super) fn push(&mut self, token: &[u8]) {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    pub(super) fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (position, &token) in ids.iter().enumerate() {
            let unknown = || Error::UnknownToken { token, position, vocab_size: self.len() };
            bytes.extend_from_slice(self.get(token).ok_or_else(unknown)?);
        }
        Ok(bytes)
    }
}
