//! Text to token ids and back.
//!
//! [`Tokenizer`] is what the library needs of a tokenizer. [`ByteTokenizer`] and [`CharTokenizer`] serve small
//! experiments, [`NeoxTokenizer`] the Pile and Raven models, [`WorldTokenizer`] the World models; [`AnyTokenizer`] reads
//! whichever of them a file holds. Vocabulary files are the user's: none is part of the library.

mod any;
mod byte;
mod char;
mod neox;
mod stream;
mod token_bytes;
mod world;

pub use any::AnyTokenizer;
pub use byte::ByteTokenizer;
pub use char::CharTokenizer;
pub use neox::NeoxTokenizer;
pub use stream::{TokenStream, Utf8Stream};
pub use world::WorldTokenizer;

use crate::error::{Error, Result};

/// What turns text into token ids and ids into bytes.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::{CharTokenizer, Tokenizer};
/// let tokenizer = CharTokenizer::from_text("hello");
/// assert_eq!(tokenizer.vocab_size(), 4);
/// let ids = tokenizer.encode("hole").unwrap();
/// assert_eq!(tokenizer.decode(&ids).unwrap(), b"hole");
/// assert!(tokenizer.encode("help").is_err());
/// ```
pub trait Tokenizer: std::fmt::Debug + Send + Sync {
    /// A short name of the kind: `char`, `byte`, `20b` or `world`.
    fn name(&self) -> &'static str;

    /// Ids of `text`, which is taken as plain text: no piece of it becomes a control token such as the end of a text.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] for a character outside a closed vocabulary, [`Error::Tokenizer`] where the text
    /// cannot be split.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The bytes that `ids` stand for; control tokens stand for none. They need not be whole UTF-8 characters: a
    /// stream may end inside one, which is what [`TokenStream`] is for.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id outside the vocabulary.
    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>>;

    /// One more than the largest id. A model may have more rows than that: World models have 65,536 for 65,530 ids.
    fn vocab_size(&self) -> usize;

    /// The token that ends a text, if there is one.
    fn end_of_text(&self) -> Option<u32> {
        None
    }

    /// Ids of a text that the model is to continue. Differs from [`encode`](Self::encode) where the tokenizer treats
    /// the end of a text unlike its middle; see [`NeoxTokenizer`].
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text)
    }

    /// Checks that a model with `vocab_size` rows has one for every id. It may have more; their ids are never encoded,
    /// and decoding one is [`Error::UnknownToken`].
    ///
    /// # Errors
    /// [`Error::Config`] when the model has too few.
    fn check_fits(&self, vocab_size: usize) -> Result<()> {
        if self.vocab_size() <= vocab_size {
            return Ok(());
        }
        let expected = format!("at most {vocab_size} tokens, the model's vocabulary");
        Err(Error::config("tokenizer", expected, format!("{} tokens ({})", self.vocab_size(), self.name())))
    }
}
