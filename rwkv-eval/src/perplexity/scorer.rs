//! Scoring a stream of tokens, piece by piece.

use super::Perplexity;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::error::{Error, Result};
use rwkv_core::generate::check_tokens;
use rwkv_core::loss::token_nll;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;

/// What a token is predicted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// All tokens before it: the state is handed on from the first token to the last.
    #[default]
    Carried,
    /// The tokens before it in a window, at whose beginning the state is empty. Windows of `length` tokens begin every
    /// `stride` tokens; each scores the tokens that those before it did not reach. So every token is scored once, from all
    /// before it or from at least `length − stride`.
    ///
    /// # Source
    /// Hugging Face's guide "Perplexity of fixed-length models".
    Windows {
        /// Tokens in a window.
        length: usize,
        /// Tokens between the beginnings of windows: from 1 to `length − 1`.
        stride: usize,
    },
}

impl Context {
    fn check(self) -> Result<()> {
        match self {
            Self::Windows { length, stride } if length < 2 || stride == 0 || stride >= length => {
                let expected = "from 1 to one less than the window's length, so that every token has one before it";
                Err(Error::config("stride", expected, format!("stride {stride} in windows of {length}")))
            }
            _ => Ok(()),
        }
    }
}

/// Scores a stream of tokens that arrive in pieces of any size. Memory does not grow with its length, and the score does
/// not depend on the pieces or the chunk.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_eval::perplexity::{Context, Scorer};
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let mut scorer = Scorer::new(&model, Context::Windows { length: 16, stride: 8 }, 256).unwrap();
/// scorer.push(&[1, 2, 3]).unwrap();
/// scorer.push(&[4, 5]).unwrap();
/// assert_eq!(scorer.finish().unwrap().predicted_tokens, 4);
/// # }
/// ```
#[derive(Debug)]
pub struct Scorer<'m, B: RwkvBackend> {
    model: &'m Rwkv<B>,
    context: Context,
    chunk: usize,
    /// Tokens that were not read yet; in windows also those that the next window begins with.
    waiting: Vec<u32>,
    /// How many of `waiting` were scored before; the first token of all counts.
    done: usize,
    state: Option<State<B>>,
    score: Perplexity,
}

impl<'m, B: RwkvBackend> Scorer<'m, B> {
    /// A scorer that reads `chunk` tokens at once at most.
    ///
    /// # Errors
    /// [`Error::Config`] for a chunk of zero or a stride that does not fit its windows.
    pub fn new(model: &'m Rwkv<B>, context: Context, chunk: usize) -> Result<Self> {
        context.check()?;
        if chunk == 0 {
            return Err(Error::config("chunk", "a positive number", chunk));
        }
        let score = Perplexity { nll_nats: 0.0, predicted_tokens: 0 };
        Ok(Self { model, context, chunk, waiting: Vec::new(), done: 1, state: None, score })
    }

    /// Takes the next tokens.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id outside the vocabulary, counted in this piece.
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config().vocab_size)?;
        let full = match self.context {
            // A token more than is read: the last one's target.
            Context::Carried => self.chunk + 1,
            Context::Windows { length, .. } => length,
        };
        let mut rest = tokens;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(full - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            rest = later;
            if self.waiting.len() == full {
                self.read();
            }
        }
        Ok(())
    }

    /// The score of everything that was pushed. All tokens but the first are predicted.
    ///
    /// # Errors
    /// [`Error::Config`] when there were fewer than two tokens; [`Error::Logits`] when the model's answers are not numbers.
    pub fn finish(mut self) -> Result<Perplexity> {
        if self.waiting.len() > self.done {
            self.read();
        }
        if self.score.predicted_tokens == 0 {
            return Err(Error::config("tokens", "at least two", self.waiting.len()));
        }
        if self.score.nll_nats.is_nan() {
            return Err(Error::Logits { problem: "are not numbers, so the text has no score".to_owned() });
        }
        Ok(self.score)
    }

    /// Scores what waits, and keeps what the next tokens are predicted from.
    fn read(&mut self) {
        let carried = self.state.take();
        let mut state = carried.unwrap_or_else(|| self.model.zero_state(1));
        let tokens = std::mem::take(&mut self.waiting);
        // In windows: tokens whose successors have their scores need no logits.
        let first = self.done - 1;
        for piece in tokens[..first].chunks(self.chunk) {
            state = self.model.read(self.ids(piece), state);
        }
        for start in (first..tokens.len() - 1).step_by(self.chunk) {
            let end = (start + self.chunk).min(tokens.len() - 1);
            let (logits, next) = self.model.forward(self.ids(&tokens[start..end]), state);
            state = next;
            let losses = token_nll(logits, self.ids(&tokens[start + 1..end + 1]));
            // Summed in f64: thousands of f32 would lose digits.
            self.score.nll_nats += losses.into_data().iter::<f64>().sum::<f64>();
        }
        self.score.predicted_tokens += tokens.len() - self.done;
        let keep = match self.context {
            Context::Carried => {
                self.state = Some(state);
                1
            }
            Context::Windows { length, stride } => length - stride,
        };
        self.waiting = tokens[tokens.len().saturating_sub(keep)..].to_vec();
        self.done = self.waiting.len();
    }

    fn ids(&self, tokens: &[u32]) -> Tensor<B, 2, Int> {
        let ids: Vec<i32> = tokens.iter().map(|token| token.cast_signed()).collect();
        Tensor::from_data(TensorData::new(ids, [1, tokens.len()]), &self.model.device())
    }
}
