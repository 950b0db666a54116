//! A conversation as a value.

use super::partner::Asked;
use super::{Format, Partner, Reply};
use crate::error::{Error, Result};
use crate::ops::RwkvBackend;
use crate::state::State;

/// What was said so far, as the model remembers it. Clone it to fork it; nothing is shared with the clone.
///
/// # Example
/// ```
/// use rwkv_core::chat::{Conversation, Format, Partner, Settings};
/// use rwkv_core::error::Error;
/// use rwkv_core::tokenizer::ByteTokenizer;
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let model = Rwkv::<B>::new(&RwkvConfig::new(256, 2, 32), 0, &Default::default());
/// let settings = Settings { max_tokens: 10, ..Settings::default() };
/// let partner = Partner::new(&model, &ByteTokenizer {}, settings).unwrap();
/// let mut conversation = Conversation::new(&partner, Format::World, Format::World.introduction()).unwrap();
/// let mut printed = String::new();
/// let reply = conversation
///     .say(&partner, "How are you?", |piece| {
///         printed.push_str(piece);
///         Ok::<(), Error>(())
///     })
///     .unwrap();
/// assert_eq!(printed.trim(), reply.text);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Conversation<B: RwkvBackend> {
    format: Format,
    state: State<B>,
    /// The model after the last prompt, which another reply can begin from.
    asked: Option<Asked<B>>,
    /// How many replies were drawn.
    replies: u64,
}

impl<B: RwkvBackend> Conversation<B> {
    /// A conversation that begins with this text, which may be empty; see [`Format::introduction`].
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn new(partner: &Partner<'_, B>, format: Format, introduction: &str) -> Result<Self> {
        Ok(Self::from_state(format, partner.read(partner.model().zero_state(1), introduction)?))
    }

    /// A conversation that goes on from a state of one sequence, such as that of [`Self::state`].
    #[must_use]
    pub fn from_state(format: Format, state: State<B>) -> Self {
        Self { format, state, asked: None, replies: 0 }
    }

    /// All that the model remembers: what a later conversation can go on from.
    #[must_use]
    pub fn state(&self) -> &State<B> {
        &self.state
    }

    /// Says something, hands the reply's text to `show` as it comes, and returns the reply.
    ///
    /// # Errors
    /// [`Error::Config`] for a message without text, an error of encoding it, or that of `show`. The conversation is
    /// what it was before then.
    pub fn say<E: From<Error>>(
        &mut self,
        partner: &Partner<'_, B>,
        message: &str,
        show: impl FnMut(&str) -> std::result::Result<(), E>,
    ) -> std::result::Result<Reply, E> {
        if message.trim().is_empty() {
            return Err(Error::config("message", "some text", "none").into());
        }
        let asked = partner.ask(self.state.clone(), &self.format.prompt(message, ""))?;
        self.answer(partner, asked, show)
    }

    /// Takes the last reply back and draws another one in its place.
    ///
    /// # Errors
    /// [`Error::Config`] when nothing was said yet, or as [`Self::say`].
    pub fn retry<E: From<Error>>(
        &mut self,
        partner: &Partner<'_, B>,
        show: impl FnMut(&str) -> std::result::Result<(), E>,
    ) -> std::result::Result<Reply, E> {
        let asked = self.asked.clone().ok_or_else(|| Error::config("retry", "a message to answer again", "none"))?;
        self.answer(partner, asked, show)
    }

    fn answer<E: From<Error>>(
        &mut self,
        partner: &Partner<'_, B>,
        asked: Asked<B>,
        show: impl FnMut(&str) -> std::result::Result<(), E>,
    ) -> std::result::Result<Reply, E> {
        let (reply, state) = B::burst(|| partner.answer(&asked, self.format, self.replies, show))?;
        self.state = state;
        self.asked = Some(asked);
        self.replies += 1;
        Ok(reply)
    }
}
