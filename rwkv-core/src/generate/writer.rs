//! From the logits of one text to its next piece.

use super::logprobs::Logprobs;
use super::output::{Generated, Output};
use super::sampling::Sampler;
use super::stop::{Finish, StopStrings};
use crate::error::{Error, Result};
use crate::tokenizer::Utf8Stream;

/// One text in the making: all of it but the model and its state.
#[derive(Debug, Clone)]
pub(super) struct Writer<'a> {
    sampler: Sampler,
    output: Output<'a>,
    bytes: Utf8Stream,
    stop: StopStrings,
    written: usize,
    finished: bool,
}

impl<'a> Writer<'a> {
    /// A text before its first token.
    pub(super) fn new(sampler: Sampler, output: Output<'a>, vocab_size: usize) -> Result<Self> {
        output.validate(sampler.config().exempt_digits, vocab_size)?;
        sampler.config().check_vocabulary(vocab_size)?;
        let stop = StopStrings::new(output.stop_strings.clone());
        Ok(Self { sampler, output, bytes: Utf8Stream::default(), stop, written: 0, finished: false })
    }

    /// Whether no step will come any more.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Whether the next step needs logits: not when no token was asked for.
    pub(super) fn needs_logits(&self) -> bool {
        !self.finished && self.output.max_tokens != Some(self.written)
    }

    /// The step that ends a text of which no more tokens are wanted.
    pub(super) fn close(&mut self) -> Generated {
        self.finished = true;
        Generated { token: None, text: self.rest(), logprobs: None, finish: Some(Finish::Length) }
    }

    /// The next step. After an error there is none.
    pub(super) fn write(&mut self, logits: &[f32]) -> Result<Generated> {
        let step = self.step(logits);
        self.finished = step.as_ref().map_or(true, |step| step.finish.is_some());
        step
    }

    fn step(&mut self, logits: &[f32]) -> Result<Generated> {
        let token = self.sampler.sample(logits)?;
        if self.output.stop_tokens.contains(&token) {
            let finish = Some(Finish::StopToken(token));
            return Ok(Generated { token: None, text: self.rest(), logprobs: None, finish });
        }
        let logprobs = self.output.logprobs.map(|count| Logprobs::new(logits, token, count));
        let decoded = match self.output.decode {
            // The position is that of the text, not of the one token that is decoded.
            Some(decode) => Some(decode(&[token]).map_err(|error| match error {
                Error::UnknownToken { token, vocab_size, .. } => {
                    Error::UnknownToken { token, position: self.written, vocab_size }
                }
                other => other,
            })?),
            None => None,
        };
        self.sampler.record(token, decoded.as_deref());
        self.written += 1;
        let (mut text, found) = self.stop.push(&self.bytes.push(decoded.as_deref().unwrap_or_default()));
        let mut finish = found.map(|string| Finish::StopString(string.to_owned()));
        if finish.is_none() && self.output.max_tokens == Some(self.written) {
            finish = Some(Finish::Length);
            text += &self.rest();
        }
        Ok(Generated { token: Some(token), text, logprobs, finish })
    }

    /// Text that was held back, and the mark of a character that was cut.
    fn rest(&mut self) -> String {
        self.stop.finish() + &std::mem::take(&mut self.bytes).finish()
    }
}
