//! Text from a stream of bytes or tokens that may break inside a character.

use super::Tokenizer;
use crate::error::Result;

/// Holds back the bytes of a character that is not complete yet.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::Utf8Stream;
/// let mut stream = Utf8Stream::default();
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9!"), "é!");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that `bytes` complete. Bytes that can never become a character turn into U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    match error.error_len() {
                        Some(invalid) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.pending.drain(..valid + invalid);
                        }
                        None => {
                            self.pending.drain(..valid);
                            return text; // the rest may still become a character
                        }
                    }
                }
            }
        }
    }

    /// What is left at the end of the stream: nothing, or one U+FFFD for a character that was cut.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Decodes one token after another, and holds back what ends inside a character.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::{ByteTokenizer, TokenStream, Tokenizer};
/// let tokenizer = ByteTokenizer {};
/// let mut stream = TokenStream::new(&tokenizer);
/// let pieces: Vec<String> =
///     tokenizer.encode("né").unwrap().into_iter().map(|token| stream.push(token).unwrap()).collect();
/// assert_eq!(pieces, ["n", "", "é"]);
/// ```
#[derive(Debug, Clone)]
pub struct TokenStream<'a> {
    tokenizer: &'a dyn Tokenizer,
    text: Utf8Stream,
}

impl<'a> TokenStream<'a> {
    /// The beginning of a stream of this tokenizer's ids.
    #[must_use]
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Self {
        Self { tokenizer, text: Utf8Stream::default() }
    }

    /// The text that `token` completes: whole characters only, or nothing yet.
    ///
    /// # Errors
    /// [`Error::UnknownToken`](crate::error::Error::UnknownToken) for an id outside the vocabulary.
    pub fn push(&mut self, token: u32) -> Result<String> {
        Ok(self.text.push(&self.tokenizer.decode(&[token])?))
    }

    /// What is left at the end of the stream; see [`Utf8Stream::finish`].
    #[must_use]
    pub fn finish(self) -> String {
        self.text.finish()
    }
}
