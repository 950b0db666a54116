//! The byte-level BPE of the Pile and Raven models.

mod file;

use super::Tokenizer;
use super::token_bytes::TokenBytes;
use crate::error::{Error, Result};
use std::path::Path;

/// `20B_tokenizer.json` of GPT-NeoX, or any other Hugging Face `tokenizer.json` of a byte-level BPE, by the crate
/// [`tokenizers`].
///
/// # Normalisation
/// The 20B tokenizer composes characters (Unicode NFC) before it splits: `e` and a combining acute become `é`, and
/// `decode(encode(text))` is then the composed text. Whoever counts bytes of the original, as in bits per byte, or looks
/// for it in the output must normalise it, too.
///
/// # Control tokens in text
/// In the official programs the words `<|endoftext|>` in a text become the token that ends it, so whoever writes
/// the text may end it. [`encode`](Tokenizer::encode) takes them as the characters that they are;
/// [`with_control_tokens_in_text`](Self::with_control_tokens_in_text) restores the official reading for texts of your
/// own. Either way control tokens decode to nothing.
///
/// # The end of a prompt
/// Two newlines inside a text are two tokens, since the last blank before a word stands alone; at the end of a text they
/// are one token, which a model has not seen there. [`encode_prompt`](Tokenizer::encode_prompt)
/// makes two of a final one (20B: 535 becomes 187, 187), as the official chat program does.
///
/// # Decoding
/// A token's bytes come from its own spelling in the byte-level alphabet, so a token that is part of a character decodes
/// to that part, where Hugging Face's decoder gives U+FFFD.
#[derive(Debug, Clone)]
pub struct NeoxTokenizer {
    bpe: tokenizers::Tokenizer,
    tokens: TokenBytes,
    end_of_text: Option<u32>,
    /// The token of two newlines, and that of one.
    newlines: Option<(u32, u32)>,
}

impl NeoxTokenizer {
    const NAME: &'static str = "20b";

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`Self::from_file`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_file(path, &std::fs::read(path).map_err(Error::io("read", path))?)
    }

    /// Takes the content of the file `path`.
    ///
    /// # Errors
    /// [`Error::Format`] for something that is no `tokenizer.json` of a byte-level BPE, or that contradicts itself.
    pub fn from_file(path: &Path, json: &[u8]) -> Result<Self> {
        let (mut bpe, tokens) = file::read(json).map_err(|problem| Error::format(path, problem))?;
        bpe.set_encode_special_tokens(true);
        let end_of_text = bpe.token_to_id("<|endoftext|>");
        let newlines = bpe.token_to_id("ĊĊ").zip(bpe.token_to_id("Ċ"));
        Ok(Self { bpe, tokens, end_of_text, newlines })
    }

    /// Whether the spelling of a control token in a text, such as `<|endoftext|>`, becomes that token. Off at first.
    #[must_use]
    pub fn with_control_tokens_in_text(mut self, become_tokens: bool) -> Self {
        self.bpe.set_encode_special_tokens(!become_tokens);
        self
    }

    /// The file again.
    pub(super) fn to_json(&self) -> Result<String> {
        let bad = |error| Error::Tokenizer { tokenizer: Self::NAME, problem: format!("cannot be written: {error}") };
        self.bpe.to_string(false).map_err(bad)
    }
}

impl Tokenizer for NeoxTokenizer {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let bad =
            |error| Error::Tokenizer { tokenizer: Self::NAME, problem: format!("cannot split the text: {error}") };
        Ok(self.bpe.encode_fast(text, false).map_err(bad)?.get_ids().to_vec())
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        self.tokens.decode(ids)
    }

    fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        if let Some((two, one)) = self.newlines
            && ids.last() == Some(&two)
        {
            ids.pop();
            ids.extend([one, one]);
        }
        Ok(ids)
    }
}
