//! Many texts at once, each as if it were alone.

use super::generator::{to_host, token_ids};
use super::output::{Generated, Output};
use super::prefill::prefill_rows;
use super::sampling::Sampler;
use super::writer::Writer;
use crate::error::Result;
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;

/// One text of a batch before its first token.
#[derive(Debug, Clone)]
pub struct BatchRow<B: RwkvBackend> {
    /// What came before the prompt: a state of one sequence.
    pub state: State<B>,
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// How this text's tokens are drawn. A seed of its own makes a text independent of the batch that it is in.
    pub sampler: Sampler,
}

/// Generates a batch of texts: a matrix product over all rows reads the weights once, where one by one would read them
/// once per row.
///
/// Each row gets the tokens that a [`Generator`](super::Generator) would give it: rows share no state, and prompts of
/// unequal lengths are read without padding (see [`prefill_rows`]). A row that finishes leaves the batch. Logits differ
/// from those of the row alone by rounding, because a matrix product of another height may add up in another order; with
/// [`Precision::Bf16Products`](crate::model::Precision::Bf16Products) also because only products of more than four rows round
/// what they multiply.
///
/// Each step of the iterator holds one step of every unfinished row, with the row's index.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::generate::{BatchGenerator, BatchRow, Output, Sampler};
/// use rwkv_core::model::Rwkv;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let rows = [vec![1, 2, 3], vec![4]].into_iter().zip(0..).map(|(prompt, seed)| {
///     let sampler = Sampler::new(1.0, 0.9, 0, seed).unwrap();
///     BatchRow { state: model.zero_state(1), prompt, sampler }
/// });
/// let output = Output { max_tokens: Some(5), ..Output::default() };
/// let mut texts = vec![Vec::new(); 2];
/// for step in BatchGenerator::new(&model, rows.collect(), &output).unwrap() {
///     for (row, generated) in step.unwrap() {
///         texts[row].extend(generated.token);
///     }
/// }
/// assert!(texts.iter().all(|text| text.len() == 5));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BatchGenerator<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    /// Rows that are not finished, in the order of the states and logits below.
    active: Vec<Active<'a>>,
    /// Their states, as one batch; `None` when no row is left.
    state: Option<State<B>>,
    logits: Vec<f32>,
    /// States of finished rows, and their last tokens, which are not read yet.
    finished: Vec<Option<(State<B>, Option<u32>)>>,
    failed: bool,
}

#[derive(Debug, Clone)]
struct Active<'a> {
    row: usize,
    writer: Writer<'a>,
    unread: Option<u32>,
}

impl<'a, B: RwkvBackend> BatchGenerator<'a, B> {
    /// Reads all prompts. `output` holds for every row.
    ///
    /// # Errors
    /// As [`Generator::with_output`](super::Generator::with_output), for any row, or when there are no rows.
    pub fn new(model: &'a Rwkv<B>, rows: Vec<BatchRow<B>>, output: &Output<'a>) -> Result<Self> {
        let vocab_size = model.config().vocab_size;
        let mut active = Vec::with_capacity(rows.len());
        let mut prompts = Vec::with_capacity(rows.len());
        for (row, BatchRow { state, prompt, sampler }) in rows.into_iter().enumerate() {
            active.push(Active { row, writer: Writer::new(sampler, output.clone(), vocab_size)?, unread: None });
            prompts.push((state, prompt));
        }
        let prompts: Vec<_> = prompts.iter().map(|(state, prompt)| (state.clone(), prompt.as_slice())).collect();
        let finished = vec![None; prompts.len()];
        let (logits, state) = prefill_rows(model, prompts)?;
        Ok(Self { model, active, state: Some(state), logits: to_host(logits), finished, failed: false })
    }

    /// The states of all rows after everything so far, as one batch in the order of the rows; see
    /// [`Generator::into_state`](super::Generator::into_state).
    #[must_use]
    pub fn into_state(mut self) -> State<B> {
        self.leave(|_| true);
        // Rows that end with a token that is not read yet read it together.
        let rows: Vec<_> = self.finished.into_iter().flatten().collect();
        let tokens: Vec<u32> = rows.iter().filter_map(|(_, unread)| *unread).collect();
        let unread: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].1.is_some()).collect();
        let mut states: Vec<State<B>> = rows.into_iter().map(|(state, _)| state).collect();
        if !unread.is_empty() {
            let before = State::cat(unread.iter().map(|&row| states[row].clone()).collect());
            let after = self.model.read(token_ids(self.model, &tokens).unsqueeze_dim(1), before);
            for (i, &row) in unread.iter().enumerate() {
                states[row] = after.select(&[i]);
            }
        }
        State::cat(states)
    }

    /// Takes rows out of the batch, with their states.
    fn leave(&mut self, leaves: impl Fn(&Active<'a>) -> bool) {
        let Some(state) = self.state.take() else { return };
        let stays: Vec<usize> = (0..self.active.len()).filter(|&i| !leaves(&self.active[i])).collect();
        if stays.len() == self.active.len() {
            self.state = Some(state);
            return;
        }
        for (i, active) in self.active.iter().enumerate() {
            if leaves(active) {
                self.finished[active.row] = Some((state.select(&[i]), active.unread));
            }
        }
        self.active.retain(|active| !leaves(active));
        self.state = (!stays.is_empty()).then(|| state.select(&stays));
    }

    /// The model reads the rows' last tokens.
    fn read_last(&mut self) {
        let tokens: Vec<u32> = self.active.iter_mut().filter_map(|active| active.unread.take()).collect();
        if tokens.len() < self.active.len() {
            return; // the first step: the prompt's logits are there
        }
        if let Some(state) = self.state.take() {
            let (logits, state) = self.model.step(token_ids(self.model, &tokens), state);
            (self.logits, self.state) = (to_host(logits), Some(state));
        }
    }

    fn step(&mut self) -> Result<Vec<(usize, Generated)>> {
        self.leave(|active| active.writer.finished());
        if self.active.iter().any(|active| active.writer.needs_logits()) {
            self.read_last();
        }
        let width = self.model.config().vocab_size;
        let rows = self.active.iter_mut().zip(self.logits.chunks_exact(width));
        let write = |(active, logits): (&mut Active<'a>, &[f32])| {
            let step = if active.writer.needs_logits() { active.writer.write(logits)? } else { active.writer.close() };
            active.unread = step.token;
            Ok((active.row, step))
        };
        rows.map(write).collect()
    }
}

impl<B: RwkvBackend> Iterator for BatchGenerator<'_, B> {
    type Item = Result<Vec<(usize, Generated)>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.active.iter().all(|active| active.writer.finished()) {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        Some(step)
    }
}
