//! What a generator hands out with each token, and when it ends.

use super::logprobs::Logprobs;
use super::stop::Finish;
use crate::error::{Error, Result};
use std::fmt;

/// Token ids to the bytes of their text; a tokenizer's `decode`.
pub type Decode<'a> = dyn Fn(&[u32]) -> Result<Vec<u8>> + 'a;

/// What a generator is asked for beyond tokens. The default is an endless stream of tokens without text.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::generate::{Finish, Generator, Output, Sampler};
/// use rwkv_core::model::Rwkv;
/// use rwkv_core::tokenizer::{ByteTokenizer, Tokenizer};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let model = Rwkv::<B>::new(&RwkvConfig::new(256, 2, 32), 0, &Default::default());
/// let tokenizer = ByteTokenizer::default();
/// let decode = |ids: &[u32]| tokenizer.decode(ids);
/// let output = Output {
///     decode: Some(&decode),
///     max_tokens: Some(20),
///     stop_strings: vec!["\n\n".into()],
///     logprobs: Some(3),
///     ..Output::default()
/// };
/// let sampler = Sampler::new(1.0, 0.9, 0, 42).unwrap();
/// let prompt = tokenizer.encode("Once").unwrap();
/// let mut text = String::new();
/// for piece in Generator::with_output(&model, model.zero_state(1), &prompt, sampler, output).unwrap() {
///     let piece = piece.unwrap();
///     text += &piece.text;
///     if let Some(logprobs) = piece.logprobs {
///         assert!(logprobs.top.len() == 3 && logprobs.chosen.logprob <= logprobs.top[0].logprob);
///     }
///     if let Some(finish) = piece.finish {
///         assert!(finish == Finish::Length || finish == Finish::StopString("\n\n".into()));
///     }
/// }
/// assert!(!text.contains("\n\n"));
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Output<'a> {
    /// Turns tokens into text. Without it [`Generated::text`] stays empty.
    pub decode: Option<&'a Decode<'a>>,
    /// End after this many tokens.
    pub max_tokens: Option<usize>,
    /// End at these tokens. A stop token is neither handed out nor read by the model.
    pub stop_tokens: Vec<u32>,
    /// End where the text comes to contain one of these. The stop string is not part of the text, nor is what follows
    /// it in the same token; its tokens are handed out and read by the model like any others.
    pub stop_strings: Vec<String>,
    /// Log-probabilities of the drawn token and of this many most probable ones.
    pub logprobs: Option<usize>,
}

impl Output<'_> {
    /// Checks the settings, for a sampler that counts or does not count digits.
    pub(super) fn validate(&self, exempt_digits: bool, vocab_size: usize) -> Result<()> {
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(Error::config("stop_strings", "strings of at least one character", "an empty one"));
        }
        if self.decode.is_none() && !self.stop_strings.is_empty() {
            return Err(Error::config("stop_strings", "a decoder beside them: they are looked for in text", "none"));
        }
        if self.decode.is_none() && exempt_digits {
            return Err(Error::config("exempt_digits", "a decoder beside it: it looks at text", "none"));
        }
        match self.stop_tokens.iter().find(|&&token| token as usize >= vocab_size) {
            None => Ok(()),
            Some(token) => Err(Error::config("stop_tokens", format!("token ids below {vocab_size}"), token)),
        }
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("decode", &self.decode.map(|_| "…"))
            .field("max_tokens", &self.max_tokens)
            .field("stop_tokens", &self.stop_tokens)
            .field("stop_strings", &self.stop_strings)
            .field("logprobs", &self.logprobs)
            .finish()
    }
}

/// One step of a generator.
///
/// The texts of all steps, put together, are the decoded text. A step's text need not be that of its token: it waits
/// for the rest of a character, and for the end of what may yet become a stop string.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The token; `None` in a last step that only releases text: after a stop token, or if no token was asked for.
    pub token: Option<u32>,
    /// The text that this step makes certain.
    pub text: String,
    /// The token's log-probability and the most probable ones, if asked for.
    pub logprobs: Option<Logprobs>,
    /// Why this step is the last one; `None` in all others.
    pub finish: Option<Finish>,
}
