//! Writing text: a prompt is read in the time-parallel mode, and tokens are written in the recurrent one.

mod sampling;

pub use sampling::Sampler;

use crate::error::{Error, Result};
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;
use burn::tensor::{Int, Tensor, TensorData};

/// How many prompt tokens are read at once. Longer prompts go in pieces, which bounds the memory of a long one.
const PREFILL_TOKENS: usize = 256;

/// An endless stream of tokens that continue a prompt.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::generate::{Generator, Sampler};
/// use rwkv_core::model::Rwkv;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let sampler = Sampler::new(1.0, 0.9, 0, 42).unwrap();
/// let generator = Generator::new(&model, model.zero_state(1), &[1, 2, 3], sampler).unwrap();
/// let tokens: Vec<u32> = generator.take(5).collect();
/// assert_eq!(tokens.len(), 5);
/// # }
/// ```
#[derive(Debug)]
pub struct Generator<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    state: State<B>,
    logits: Vec<f32>,
    sampler: Sampler,
    /// The token that `next` returned last; the model reads it when one more is asked for.
    unread: Option<u32>,
}

impl<'a, B: RwkvBackend> Generator<'a, B> {
    /// Reads `prompt` after `state`, a state of one sequence.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty prompt, [`Error::UnknownToken`] for an id outside the vocabulary.
    pub fn new(model: &'a Rwkv<B>, state: State<B>, prompt: &[u32], sampler: Sampler) -> Result<Self> {
        let (logits, state) = prefill(model, state, prompt)?;
        Ok(Self { model, state, logits: to_host(logits), sampler, unread: None })
    }

    /// The state after everything so far, the last written token included: what a later session goes on from.
    #[must_use]
    pub fn into_state(mut self) -> State<B> {
        self.read_last();
        self.state
    }

    fn read_last(&mut self) {
        if let Some(token) = self.unread.take() {
            let token = Tensor::from_data(TensorData::new(vec![i64::from(token)], [1]), &self.model.device());
            let (logits, state) = self.model.step(token, self.state.clone());
            self.logits = to_host(logits);
            self.state = state;
        }
    }
}

impl<B: RwkvBackend> Iterator for Generator<'_, B> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.read_last();
        let token = self.sampler.sample(&self.logits);
        self.unread = Some(token);
        Some(token)
    }
}

/// Reads `tokens` in the time-parallel mode: the last position's logits, `[1, V]`, and the state after it.
///
/// # Errors
/// [`Error::Config`] when there are no tokens or the state is not of one sequence, [`Error::UnknownToken`] for an id outside the vocabulary.
pub fn prefill<B: RwkvBackend>(
    model: &Rwkv<B>,
    mut state: State<B>,
    tokens: &[u32],
) -> Result<(Tensor<B, 2>, State<B>)> {
    check_tokens(tokens, model.config().vocab_size)?;
    if state.batch() != 1 {
        return Err(Error::config("state", "one sequence", format!("{} sequences", state.batch())));
    }
    let device = model.device();
    let mut logits = None;
    for piece in tokens.chunks(PREFILL_TOKENS) {
        let ids: Vec<i64> = piece.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [1, piece.len()]), &device);
        let (last, next) = model.forward_last(ids, state);
        (logits, state) = (Some(last), next);
    }
    let logits = logits.ok_or_else(|| Error::config("prompt", "at least one token", "none"))?;
    Ok((logits, state))
}

/// Checks that every id is below the vocabulary's size: on a device an id beyond it would read whatever is there.
///
/// # Errors
/// [`Error::UnknownToken`] for the first one that is not.
pub fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().position(|&token| token as usize >= vocab_size) {
        None => Ok(()),
        Some(position) => Err(Error::UnknownToken { token: tokens[position], position, vocab_size }),
    }
}

fn to_host<B: RwkvBackend>(logits: Tensor<B, 2>) -> Vec<f32> {
    logits.into_data().iter::<f32>().collect()
}
