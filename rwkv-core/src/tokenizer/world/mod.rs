//! The vocabulary of the World models.

mod literal;
mod trie;

use super::Tokenizer;
use super::token_bytes::TokenBytes;
use crate::error::{Error, Result};
use std::fmt::Write;
use std::path::Path;
use trie::Trie;

/// Greedy longest match on bytes, over the vocabulary file of the World models.
///
/// A line of the file is `id literal length`: ids count from 1, the literal is a Python string (its UTF-8 bytes count)
/// or bytes literal, the length is in bytes. Lines end in LF or CRLF. Since every single byte must be a token, any text
/// encodes, without normalisation, and `decode(encode(text))` is the text.
///
/// Id 0 ends a text. No line names it, no text encodes to it, and it decodes to nothing.
///
/// # Source
/// The official `rwkv_tokenizer.py` and `rwkv_vocab_v20230424.txt`.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::{Tokenizer, WorldTokenizer};
/// use std::path::Path;
/// // Every byte, as the real file has them, and two longer tokens.
/// let mut file: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
/// file += "257 '\\n\\n' 2\n258 'Hi' 2\n";
/// let tokenizer = WorldTokenizer::from_file(Path::new("vocabulary.txt"), file.as_bytes()).unwrap();
/// assert_eq!(tokenizer.encode("Hi!\n\n").unwrap(), [258, 34, 257]);
/// assert_eq!(tokenizer.end_of_text(), Some(0));
/// ```
#[derive(Debug, Clone)]
pub struct WorldTokenizer {
    /// By id; id 0 has none.
    tokens: TokenBytes,
    trie: Trie,
}

impl WorldTokenizer {
    /// Reads a vocabulary file.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`Self::from_file`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_file(path, &std::fs::read(path).map_err(Error::io("read", path))?)
    }

    /// Takes the content of the vocabulary file `path`.
    ///
    /// # Errors
    /// [`Error::Format`] that names the line: its id does not count on, its literal is none, its length is wrong, its
    /// token was there before; or for a file that lacks one of the 256 bytes.
    pub fn from_file(path: &Path, file: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(file).map_err(|error| {
            let line = 1 + file[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            Error::format(path, format!("line {line}: is not UTF-8"))
        })?;
        let mut tokens = TokenBytes::default();
        tokens.push(b""); // the end of a text
        for line in text.lines() {
            let number = tokens.len();
            let token = token(line, number).map_err(|what| Error::format(path, format!("line {number}: {what}")))?;
            tokens.push(&token);
        }
        let trie = Trie::build(&tokens).map_err(|(first, second)| {
            Error::format(path, format!("line {second}: the token is that of line {first}"))
        })?;
        match trie.missing_byte() {
            None => Ok(Self { tokens, trie }),
            Some(byte) => Err(Error::format(path, format!("has no token for the byte {byte:#04x}"))),
        }
    }

    /// Ids of bytes that need not be UTF-8; otherwise as [`Tokenizer::encode`].
    #[must_use]
    pub fn encode_bytes(&self, mut bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        while let Some((id, length)) = self.trie.longest(bytes) {
            ids.push(id);
            bytes = &bytes[length..];
        }
        ids
    }

    /// A vocabulary file with these tokens, all of them as bytes literals.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (id, token) in (1..self.tokens.len() as u32).filter_map(|id| Some((id, self.tokens.get(id)?))) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{id} {} {}", literal::of_bytes(token), token.len());
        }
        text
    }
}

/// The token of a line, which must have this id.
fn token(line: &str, id: usize) -> std::result::Result<Vec<u8>, String> {
    // The literal may hold spaces: only the first and the last one of the line separate.
    let parts = line.split_once(' ').and_then(|(id, rest)| rest.rsplit_once(' ').map(|(token, len)| (id, token, len)));
    let (found, literal, length) = parts.ok_or("expected an id, a literal and a length, with spaces between")?;
    if found.parse() != Ok(id) {
        return Err(format!("expected the id {id}, found {found:?}"));
    }
    let token = literal::parse(literal)?;
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    if length.parse() != Ok(token.len()) {
        return Err(format!("the literal has {} bytes, but the length says {length:?}", token.len()));
    }
    Ok(token)
}

impl Tokenizer for WorldTokenizer {
    fn name(&self) -> &'static str {
        "world"
    }

    /// Never an error.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_bytes(text.as_bytes()))
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        self.tokens.decode(ids)
    }

    fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn end_of_text(&self) -> Option<u32> {
        Some(0)
    }
}
