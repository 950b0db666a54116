//! What the program reports.

use rwkv_core::generate::{Finish, Generated, Logprobs};
use serde::Serialize;
use std::time::Duration;

/// One text.
#[derive(Default, Serialize)]
pub(super) struct Text {
    pub(super) prompt: String,
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// `length`, `stop_token` or `stop_string`.
    finish_reason: &'static str,
    /// What it stopped at, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Logprobs>>,
}

impl Text {
    /// A text before its first token.
    pub(super) fn new(prompt: &str) -> Self {
        Self { prompt: prompt.to_owned(), ..Self::default() }
    }

    /// Adds one step.
    pub(super) fn push(&mut self, step: Generated) {
        self.tokens.extend(step.token);
        self.text += &step.text;
        if let Some(logprobs) = step.logprobs {
            self.logprobs.get_or_insert_default().push(logprobs);
        }
        (self.finish_reason, self.stop) = match step.finish {
            Some(Finish::Length) => ("length", None),
            Some(Finish::StopToken(token)) => ("stop_token", Some(token.to_string())),
            Some(Finish::StopString(string)) => ("stop_string", Some(string)),
            None => return,
        };
    }
}

/// How long it took.
#[derive(Serialize)]
pub(super) struct Speed {
    prompt_tokens: usize,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    seconds: f64,
}

impl Speed {
    pub(super) fn new(prompt_tokens: usize, prefill: Duration, tokens: usize, decode: Duration) -> Self {
        // A clock that did not move would make the rate infinite, which JSON cannot say.
        let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        Self {
            prompt_tokens,
            prefill_tokens_per_second: rate(prompt_tokens, prefill),
            decode_tokens_per_second: rate(tokens, decode),
            seconds: (prefill + decode).as_secs_f64(),
        }
    }
}

/// The report: one text, or a list of them.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    One {
        #[serde(flatten)]
        text: Text,
        #[serde(flatten)]
        speed: Speed,
    },
    Batch {
        texts: Vec<Text>,
        #[serde(flatten)]
        speed: Speed,
    },
}
