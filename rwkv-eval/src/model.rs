//! What an evaluation needs of a language model.

use crate::error::Result;
use crate::request::{GenerateRequest, Likelihood, TokenRequest, Until, rolling_windows};
use rwkv_core::tokenizer::Tokenizer;

/// How requests are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Sequences at once, at most.
    pub rows: usize,
    /// Read common beginnings once.
    pub prefix_sharing: bool,
    /// Memory for states, activations and logits, in bytes; the weights come on top.
    pub memory: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { rows: 32, prefix_sharing: true, memory: 2 << 30 }
    }
}

/// Takes the answer to the request of this number, as soon as there is one.
pub type Finished<'a> = dyn FnMut(usize, Likelihood) -> Result<()> + 'a;

/// A model that can be evaluated.
///
/// Answers may come in any order, and depend neither on how requests are batched nor on what they share with each other, up
/// to rounding: `5e-4 + 2e-5·|log-likelihood|` in `f32`.
pub trait LanguageModel {
    /// How many tokens the model knows.
    fn vocab_size(&self) -> usize;

    /// Answers every request, and says how many tokens the model read for that.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory) where one request does not fit the memory, an unknown token's, or what
    /// `finished` returns.
    fn log_likelihoods(
        &self,
        requests: &[TokenRequest],
        batching: &Batching,
        finished: &mut Finished<'_>,
    ) -> Result<usize>;

    /// Continues every text by its most probable tokens.
    ///
    /// # Errors
    /// For an empty context, an unknown token, or an empty stop string.
    fn generate_until(
        &self,
        requests: &[GenerateRequest],
        until: &Until,
        tokenizer: &dyn Tokenizer,
        batching: &Batching,
    ) -> Result<Vec<String>>;

    /// The log-likelihood of every text as a whole, in the windows of [`rolling_windows`], the first token predicted from
    /// `start`.
    ///
    /// # Errors
    /// As [`Self::log_likelihoods`].
    fn rolling_log_likelihoods(
        &self,
        texts: &[Vec<u32>],
        start: u32,
        max_length: usize,
        batching: &Batching,
    ) -> Result<Vec<f64>> {
        let (mut requests, mut owners) = (Vec::new(), Vec::new());
        for (text, tokens) in texts.iter().enumerate() {
            let windows = rolling_windows(tokens, start, max_length);
            owners.extend(std::iter::repeat_n(text, windows.len()));
            requests.extend(windows);
        }
        let mut answers = vec![0.0; requests.len()];
        self.log_likelihoods(&requests, batching, &mut |request, likelihood| {
            answers[request] = likelihood.log_likelihood;
            Ok(())
        })?;
        // Summed in the order of the text, whatever the order of the answers was.
        let mut sums = vec![0.0; texts.len()];
        for (&text, answer) in owners.iter().zip(answers) {
            sums[text] += answer;
        }
        Ok(sums)
    }
}
