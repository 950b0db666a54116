//! Whoever writes the replies: a model, its tokenizer and how to draw.

use super::{Format, StopText};
use crate::error::{Error, Result};
use crate::generate::{Sampler, SamplerConfig, prefill};
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;
use crate::tokenizer::{TokenStream, Tokenizer};
use burn::tensor::{Tensor, TensorData};

/// How replies are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How tokens are drawn. What is counted for the penalties begins anew with every reply.
    pub sampler: SamplerConfig,
    /// Reply number `n` of a conversation is drawn with the seed `seed + n`, so that it depends on nothing but the
    /// conversation.
    pub seed: u64,
    /// A reply that has not ended after this many tokens ends there.
    pub max_tokens: usize,
    /// Whether [`newline_bias`] is added, where an empty line ends a reply.
    pub newline_bias: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let sampler =
            SamplerConfig { top_p: 0.5, alpha_presence: 0.4, alpha_frequency: 0.4, ..SamplerConfig::default() };
        Self { sampler, seed: 0, max_tokens: 999, newline_bias: true }
    }
}

/// What the official chat program adds to the logit of a newline when `written` tokens of a reply are written: none can
/// begin with one, short replies are drawn out, and long ones led to their end.
///
/// # Source
/// `v2/chat.py`: for the token after number `i`, `−∞` at `i = 0`, `(i − 40)/10` up to 40, 0 up to 150, then
/// `min(3, (i − 150)/4)`.
#[must_use]
pub fn newline_bias(written: usize) -> f32 {
    match written.saturating_sub(1) {
        0 => f32::NEG_INFINITY,
        i @ 1..=40 => (i as f32 - 40.0) / 10.0,
        41..=150 => 0.0,
        i => ((i - 150) as f32 / 4.0).min(3.0),
    }
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The format's stop string came.
    Stop,
    /// The token that ends a text came.
    EndOfText,
    /// It was [`Settings::max_tokens`] long.
    Length,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its text, without the stop string and the blanks around it.
    pub text: String,
    /// The tokens that the model wrote and read, those of the stop string included, [`Ending::EndOfText`] not.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
}

/// A model that reads a prompt and has not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Asked<B: RwkvBackend> {
    state: State<B>,
    logits: Vec<f32>,
}

/// A model, its tokenizer and its settings: what writes the replies of any number of conversations.
#[derive(Debug, Clone)]
pub struct Partner<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    tokenizer: &'a dyn Tokenizer,
    settings: Settings,
    newline: Option<usize>,
}

impl<'a, B: RwkvBackend> Partner<'a, B> {
    /// Checks that the parts fit.
    ///
    /// # Errors
    /// [`Error::Config`] for a tokenizer with more ids than the model has, or settings out of range.
    pub fn new(model: &'a Rwkv<B>, tokenizer: &'a dyn Tokenizer, settings: Settings) -> Result<Self> {
        tokenizer.check_fits(model.config().vocab_size)?;
        let newline = match tokenizer.encode("\n") {
            Ok(ids) if ids.len() == 1 => Some(ids[0] as usize),
            _ => None, // nothing to bias
        };
        let partner = Self { model, tokenizer, settings, newline };
        partner.sampler(0)?;
        Ok(partner)
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &'a Rwkv<B> {
        self.model
    }

    fn sampler(&self, reply: u64) -> Result<Sampler> {
        Sampler::from_config(self.settings.sampler.clone(), self.settings.seed.wrapping_add(reply))
    }

    /// The state after a text; the same one after an empty text.
    pub(super) fn read(&self, state: State<B>, text: &str) -> Result<State<B>> {
        if text.is_empty() {
            return Ok(state);
        }
        Ok(prefill(self.model, state, &self.tokenizer.encode_prompt(text)?)?.1)
    }

    /// Reads a prompt.
    pub(super) fn ask(&self, state: State<B>, prompt: &str) -> Result<Asked<B>> {
        let (logits, state) = prefill(self.model, state, &self.tokenizer.encode_prompt(prompt)?)?;
        Ok(Asked { state, logits: to_host(logits) })
    }

    /// Writes reply number `number`, shows its text while it comes, and returns it with the state for the next turn:
    /// after the stop string, which is read to the model where it did not write it.
    pub(super) fn answer<E: From<Error>>(
        &self,
        asked: &Asked<B>,
        format: Format,
        number: u64,
        mut show: impl FnMut(&str) -> std::result::Result<(), E>,
    ) -> std::result::Result<(Reply, State<B>), E> {
        let mut sampler = self.sampler(number)?;
        let Asked { mut state, mut logits } = asked.clone();
        let mut stream = TokenStream::new(self.tokenizer);
        let mut text = StopText::new(format.stop());
        let mut tokens = Vec::new();
        let mut begun = false;
        let mut shown = |piece: &str| {
            let piece = if begun { piece } else { piece.trim_start() };
            begun |= !piece.is_empty();
            if piece.is_empty() { Ok(()) } else { show(piece) }
        };
        let ending = loop {
            if tokens.len() == self.settings.max_tokens {
                break Ending::Length;
            }
            let token = sampler.sample(self.biased(&mut logits, format, tokens.len()))?;
            if Some(token) == self.tokenizer.end_of_text() {
                break Ending::EndOfText;
            }
            let id = Tensor::from_data(TensorData::new(vec![i64::from(token)], [1]), &self.model.device());
            let (next, after) = self.model.step(id, state);
            (logits, state) = (to_host(next), after);
            tokens.push(token);
            sampler.record(token, Some(&self.tokenizer.decode(&[token])?));
            shown(text.push(&stream.push(token)?))?;
            if text.is_stopped() {
                break Ending::Stop;
            }
        };
        shown(text.push(&stream.finish()))?;
        let (text, rest) = text.finish();
        shown(&rest)?;
        if ending != Ending::Stop {
            let separator = if text.ends_with('\n') { "\n" } else { "\n\n" };
            state = self.read(state, separator)?;
        }
        Ok((Reply { text: text.trim().to_owned(), tokens, ending }, state))
    }

    /// The logits to draw from: of ids that the tokenizer has, with the bias of the newline.
    fn biased<'l>(&self, logits: &'l mut [f32], format: Format, written: usize) -> &'l [f32] {
        if let (true, Some(_), Some(newline)) = (self.settings.newline_bias, format.stop(), self.newline) {
            logits[newline] += newline_bias(written);
        }
        let known = self.tokenizer.vocab_size().min(logits.len());
        &logits[..known]
    }
}

fn to_host<B: RwkvBackend>(logits: Tensor<B, 2>) -> Vec<f32> {
    logits.into_data().iter::<f32>().collect()
}
