//! How well a model predicts tokens and texts.

mod document;
mod pieces;
mod scorer;
mod text;

pub use document::{Report, ReportSettings};
pub use scorer::{Context, Scorer};
pub use text::{TextScore, TextScorer, Total};

use rwkv_core::error::{Error, Result};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// The score of a token stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Summed negative log-likelihood, in nats.
    pub nll_nats: f64,
    /// How many tokens were predicted: all but the first.
    pub predicted_tokens: usize,
}

impl Perplexity {
    /// Mean negative log-likelihood, in nats per token.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.nll_nats / self.predicted_tokens as f64
    }

    /// `exp(loss)`.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// `loss/ln 2`, in bits per token.
    #[must_use]
    pub fn bits_per_token(&self) -> f64 {
        self.loss() / std::f64::consts::LN_2
    }
}

/// Predicts every token of `tokens` but the first, each from all those before it.
///
/// The stream is read `chunk` tokens at a time with the state handed on, so memory does not grow with its length, and
/// the score does not depend on `chunk`.
///
/// # Errors
/// [`Error::Config`] for fewer than two tokens or a chunk of zero, [`Error::UnknownToken`] for an id outside the
/// vocabulary.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_eval::perplexity::score;
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let tokens: Vec<u32> = (0..50).collect();
/// let (whole, pieces) = (score(&model, &tokens, 100).unwrap(), score(&model, &tokens, 7).unwrap());
/// assert!((whole.loss() - pieces.loss()).abs() < 1e-4);
/// # }
/// ```
pub fn score<B: RwkvBackend>(model: &Rwkv<B>, tokens: &[u32], chunk: usize) -> Result<Perplexity> {
    if tokens.len() < 2 {
        return Err(Error::config("tokens", "at least two", tokens.len()));
    }
    let mut scorer = Scorer::new(model, Context::Carried, chunk)?;
    scorer.push(tokens)?;
    scorer.finish()
}
