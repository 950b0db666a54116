//! One text, token by token.

use super::output::{Generated, Output};
use super::prefill::prefill;
use super::prefix_cache::PrefixCache;
use super::sampling::Sampler;
use super::writer::Writer;
use crate::error::Result;
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;
use burn::tensor::{Int, Tensor, TensorData};

/// A stream of tokens that continue a prompt, and of their text if asked for; see [`Output`].
///
/// It ends with the step whose [`Generated::finish`] says why, or with an error; without a limit it never ends. On a CPU the
/// threads fall asleep between tokens unless the loop over them is in a [`RwkvBackend::burst`], which is a tenth faster with a
/// small model.
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
/// let tokens: Vec<u32> = generator.take(5).map(|step| step.unwrap().token.unwrap()).collect();
/// assert_eq!(tokens.len(), 5);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Generator<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    state: State<B>,
    logits: Vec<f32>,
    writer: Writer<'a>,
    /// The token that was written last; the model reads it when one more is asked for.
    unread: Option<u32>,
}

impl<'a, B: RwkvBackend> Generator<'a, B> {
    /// An endless stream of tokens: reads `prompt` after `state`, a state of one sequence.
    ///
    /// # Errors
    /// As [`Self::with_output`].
    pub fn new(model: &'a Rwkv<B>, state: State<B>, prompt: &[u32], sampler: Sampler) -> Result<Self> {
        Self::with_output(model, state, prompt, sampler, Output::default())
    }

    /// As [`Self::new`], with text, limits and log-probabilities.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) for an empty prompt, a state of several sequences, a stop string
    /// that is empty or has no decoder beside it, or a token id in the settings that the model does not have;
    /// [`Error::UnknownToken`](crate::error::Error::UnknownToken) for one in the prompt.
    pub fn with_output(
        model: &'a Rwkv<B>,
        state: State<B>,
        prompt: &[u32],
        sampler: Sampler,
        output: Output<'a>,
    ) -> Result<Self> {
        let writer = Writer::new(sampler, output, model.config().vocab_size)?;
        let (logits, state) = prefill(model, state, prompt)?;
        Ok(Self { model, state, logits: to_host(logits), writer, unread: None })
    }

    /// As [`Self::with_output`] from the empty state, but without reading again what the cache remembers.
    ///
    /// # Errors
    /// As [`Self::with_output`].
    pub fn with_cache<'m: 'a>(
        cache: &mut PrefixCache<'m, B>,
        prompt: &[u32],
        sampler: Sampler,
        output: Output<'a>,
    ) -> Result<Self> {
        let model = cache.model();
        let writer = Writer::new(sampler, output, model.config().vocab_size)?;
        let (logits, state) = cache.prefill(prompt)?;
        Ok(Self { model, state, logits: to_host(logits), writer, unread: None })
    }

    /// The logits that the next token is drawn from, or was drawn from if it is not read yet.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The state after everything so far, the last token handed out included: what a later session goes on from. A stop
    /// token is not in it.
    #[must_use]
    pub fn into_state(mut self) -> State<B> {
        self.read_last();
        self.state
    }

    fn read_last(&mut self) {
        if let Some(token) = self.unread.take() {
            let (logits, state) = self.model.step(token_ids(self.model, &[token]), self.state.clone());
            self.logits = to_host(logits);
            self.state = state;
        }
    }
}

impl<B: RwkvBackend> Iterator for Generator<'_, B> {
    type Item = Result<Generated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.writer.finished() {
            return None;
        }
        if !self.writer.needs_logits() {
            return Some(Ok(self.writer.close()));
        }
        self.read_last();
        let step = self.writer.write(&self.logits);
        if let Ok(Generated { token, .. }) = &step {
            self.unread = *token;
        }
        Some(step)
    }
}

/// One token per sequence, on the model's device.
pub(super) fn token_ids<B: RwkvBackend>(model: &Rwkv<B>, tokens: &[u32]) -> Tensor<B, 1, Int> {
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    Tensor::from_data(TensorData::new(ids, [tokens.len()]), &model.device())
}

/// Logits of one or more sequences, row after row.
pub(super) fn to_host<B: RwkvBackend>(logits: Tensor<B, 2>) -> Vec<f32> {
    let data = logits.into_data();
    match data.as_slice::<f32>() {
        Ok(values) => values.to_vec(),
        Err(_) => data.iter::<f32>().collect(), // another dtype
    }
}
