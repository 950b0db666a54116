//! Scores of texts: by token, by byte and by word, of one and of several.

use super::pieces::{Words, can_be_cut, each_piece};
use super::{Context, Scorer};
use crate::error::Result;
use rwkv_core::error::Error;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::Tokenizer;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// How well a model predicts a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextScore {
    /// The file, with the line where it holds several texts.
    pub name: String,
    /// Summed negative log-likelihood of the predicted tokens, in nats.
    pub nll_nats: f64,
    /// Tokens that were predicted.
    pub predicted_tokens: usize,
    /// Bytes of the text that the predicted tokens stand for.
    pub bytes: usize,
    /// Words: pieces between runs of whitespace, as the reference harness counts them in `wikitext`. A text that begins or
    /// ends with whitespace has an empty one there.
    pub words: usize,
}

impl TextScore {
    /// Mean negative log-likelihood, in nats per token.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.nll_nats / self.predicted_tokens as f64
    }

    /// `exp(loss)`: depends on the tokenizer.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits per token.
    #[must_use]
    pub fn bits_per_token(&self) -> f64 {
        self.loss() / std::f64::consts::LN_2
    }

    /// Bits per byte of the text in UTF-8: does not depend on the tokenizer.
    #[must_use]
    pub fn bits_per_byte(&self) -> f64 {
        self.nll_nats / self.bytes as f64 / std::f64::consts::LN_2
    }

    /// `exp(nll/words)`: does not depend on the tokenizer.
    #[must_use]
    pub fn word_perplexity(&self) -> f64 {
        (self.nll_nats / self.words as f64).exp()
    }
}

/// Several texts as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    /// How many texts.
    pub documents: usize,
    /// Their sums.
    #[serde(flatten)]
    pub score: TextScore,
    /// Standard error of the loss, in nats per token; none for a single text.
    pub loss_stderr: Option<f64>,
    /// Standard error of the bits per byte.
    pub bits_per_byte_stderr: Option<f64>,
}

impl Total {
    /// Of these texts; `None` where there are none.
    ///
    /// A total is a ratio of sums, `r = Σyᵢ/Σnᵢ` with the texts' negative log-likelihoods `yᵢ` and their tokens or bytes
    /// `nᵢ`. Its standard error over texts is `√(d/(d−1)·Σ(yᵢ − r·nᵢ)²)/Σnᵢ` for `d` texts.
    ///
    /// # Source
    /// W. G. Cochran, "Sampling Techniques", §2.11: the ratio estimator.
    #[must_use]
    pub fn of(scores: &[TextScore]) -> Option<Self> {
        if scores.is_empty() {
            return None;
        }
        let score = TextScore {
            name: "total".to_owned(),
            nll_nats: scores.iter().map(|score| score.nll_nats).sum(),
            predicted_tokens: scores.iter().map(|score| score.predicted_tokens).sum(),
            bytes: scores.iter().map(|score| score.bytes).sum(),
            words: scores.iter().map(|score| score.words).sum(),
        };
        let stderr = |of: &dyn Fn(&TextScore) -> usize| {
            let (count, sum) = (scores.len() as f64, of(&score) as f64);
            let ratio = score.nll_nats / sum;
            let squares: f64 = scores.iter().map(|text| (text.nll_nats - ratio * of(text) as f64).powi(2)).sum();
            (scores.len() > 1).then(|| (count / (count - 1.0) * squares).sqrt() / sum)
        };
        let loss_stderr = stderr(&|text| text.predicted_tokens);
        let bits_per_byte_stderr = stderr(&|text| text.bytes).map(|nats| nats / std::f64::consts::LN_2);
        Some(Self { documents: scores.len(), score, loss_stderr, bits_per_byte_stderr })
    }
}

/// What texts are scored with.
#[derive(Debug)]
pub struct TextScorer<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    tokenizer: &'a dyn Tokenizer,
    context: Context,
    /// A token that is put before every text, so that its first token is predicted, too.
    start: Option<u32>,
    chunk: usize,
    cut: bool,
}

impl<'a, B: RwkvBackend> TextScorer<'a, B> {
    /// With this model and its tokenizer.
    ///
    /// `start` is put before every text, so that its first token is predicted, too; the reference harness puts the end of
    /// a text there. Without it the first token and its bytes are left out. At most `chunk` tokens are read at once.
    ///
    /// # Errors
    /// [`Error::Config`] when the tokenizer has more tokens than the model, or as [`Scorer::new`].
    pub fn new(
        model: &'a Rwkv<B>,
        tokenizer: &'a dyn Tokenizer,
        context: Context,
        start: Option<u32>,
        chunk: usize,
    ) -> Result<Self> {
        tokenizer.check_fits(model.config().vocab_size)?;
        Scorer::new(model, context, chunk)?;
        Ok(Self { model, tokenizer, context, start, chunk, cut: can_be_cut(tokenizer) })
    }

    /// Scores a text from a reader, in memory that does not grow with its length where the tokenizer allows it: see the
    /// condition at [`Self::reads_in_pieces`]. `progress` hears of the bytes that are done.
    ///
    /// # Errors
    /// When the text cannot be read, is not UTF-8, has no token to predict, or one that the tokenizer lacks; `name` is named.
    pub fn score(&self, name: &str, reader: impl Read, progress: &mut dyn FnMut(usize)) -> Result<TextScore> {
        let mut scorer = Scorer::new(self.model, self.context, self.chunk)?;
        if let Some(start) = self.start {
            scorer.push(&[start])?;
        }
        let (mut bytes, mut words, mut first) = (0, Words::default(), None);
        let path = Path::new(name);
        each_piece(path, reader, self.cut, |piece| {
            let tokens =
                self.tokenizer.encode(piece).map_err(|error| Error::format(path, format!("has no tokens: {error}")))?;
            first = first.or(tokens.first().copied());
            scorer.push(&tokens)?;
            words.read(piece);
            bytes += piece.len();
            progress(bytes);
            Ok(())
        })?;
        let Some(first) = first else { return Err(Error::format(path, "holds no text").into()) };
        if self.start.is_none() {
            bytes -= self.tokenizer.decode(&[first])?.len().min(bytes);
        }
        let score = scorer.finish().map_err(|error| match error {
            Error::Config { key: "tokens", .. } => Error::format(path, "has one token only, and none before it"),
            Error::Logits { problem } => Error::format(path, format!("has no score: the logits {problem}")),
            other => other,
        })?;
        Ok(TextScore {
            name: name.to_owned(),
            nll_nats: score.nll_nats,
            predicted_tokens: score.predicted_tokens,
            bytes,
            words: words.count(),
        })
    }

    /// Whether long texts are read in pieces. They are unless the vocabulary has a token in which a space follows something
    /// other than whitespace, which would reach over the cuts.
    #[must_use]
    pub fn reads_in_pieces(&self) -> bool {
        self.cut
    }
}
