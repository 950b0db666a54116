//! One token per character of a closed vocabulary.

use super::Tokenizer;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Characters as tokens: the distinct characters of a text, in code point order, as small-text experiments use them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharTokenizer {
    /// The vocabulary; a character's id is its position.
    chars: Vec<char>,
}

impl CharTokenizer {
    /// The vocabulary of this text.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut chars: Vec<char> = text.chars().collect();
        chars.sort_unstable();
        chars.dedup();
        Self { chars }
    }

    /// A vocabulary read from a file must be sorted and without repeats, or encoding would miss characters.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        match self.chars.windows(2).find(|pair| pair[0] >= pair[1]) {
            None => Ok(()),
            Some(pair) => Err(format!("lists characters out of order: {:?} before {:?}", pair[0], pair[1])),
        }
    }
}

impl Tokenizer for CharTokenizer {
    fn name(&self) -> &'static str {
        "char"
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let id = |(position, character): (usize, char)| match self.chars.binary_search(&character) {
            Ok(id) => Ok(id as u32),
            Err(_) => Err(Error::UnknownCharacter { character, position, vocab_size: self.vocab_size() }),
        };
        text.chars().enumerate().map(id).collect()
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut text = String::new();
        for (position, &token) in ids.iter().enumerate() {
            let character = self.chars.get(token as usize);
            text.push(*character.ok_or(Error::UnknownToken { token, position, vocab_size: self.vocab_size() })?);
        }
        Ok(text.into_bytes())
    }

    fn vocab_size(&self) -> usize {
        self.chars.len()
    }
}
