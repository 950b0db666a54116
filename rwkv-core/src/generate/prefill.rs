//! Reading prompts in the time-parallel mode.

use crate::error::{Error, Result};
use crate::model::Rwkv;
use crate::ops::RwkvBackend;
use crate::state::State;
use burn::tensor::{Int, Tensor, TensorData};

/// How many prompt tokens are read at once. Longer prompts go in pieces, which bounds the memory of a long one.
pub(super) const PREFILL_TOKENS: usize = 256;

/// Reads `tokens` in the time-parallel mode: the last position's logits, `[1, V]`, and the state after it.
///
/// # Errors
/// [`Error::Config`] when there are no tokens or the state is not of one sequence, [`Error::UnknownToken`] for an id
/// outside the vocabulary.
pub fn prefill<B: RwkvBackend>(model: &Rwkv<B>, state: State<B>, tokens: &[u32]) -> Result<(Tensor<B, 2>, State<B>)> {
    prefill_rows(model, vec![(state, tokens)])
}

/// Reads prompts of unequal lengths as one batch: the last positions' logits, `[prompts, V]`, and the states after
/// them, in the order of the prompts.
///
/// No padding enters a state. The longest prompts begin, others join when as many tokens are left as they have, and all
/// of them end together, so that the head is applied once, to the last positions alone:
///
/// ```text
/// prompt 0   ■ ■ ■ ■ ■ ■ ■        one prompt
/// prompt 1         ■ ■ ■ ■        two
/// prompt 2             ■ ■        three, with the head at the end
/// ```
///
/// # Errors
/// As [`prefill`], or [`Error::Config`] when there are no prompts.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, generate::prefill_rows, model::Rwkv};
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let empty = model.zero_state(1);
/// let prompts: [&[u32]; 3] = [&[1, 2], &[3, 4, 5, 6, 7], &[8]];
/// let (logits, state) = prefill_rows(&model, prompts.map(|prompt| (empty.clone(), prompt)).into()).unwrap();
/// assert_eq!((logits.dims(), state.batch()), ([3, 65], 3));
/// # }
/// ```
pub fn prefill_rows<B: RwkvBackend>(
    model: &Rwkv<B>,
    prompts: Vec<(State<B>, &[u32])>,
) -> Result<(Tensor<B, 2>, State<B>)> {
    let vocab_size = model.config().vocab_size;
    for (state, tokens) in &prompts {
        check_tokens(tokens, vocab_size)?;
        if tokens.is_empty() {
            return Err(Error::config("prompt", "at least one token", "none"));
        }
        if state.batch() != 1 {
            return Err(Error::config("state", "one sequence", format!("{} sequences", state.batch())));
        }
    }
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(prompts[row].1.len()));
    let mut waiting = order.iter().map(|&row| (prompts[row].0.clone(), prompts[row].1)).peekable();
    let mut reading: Vec<&[u32]> = Vec::new();
    let mut state = None;
    let mut left = waiting.peek().map_or(0, |(_, tokens)| tokens.len());
    loop {
        let mut joining = Vec::from_iter(state.take());
        while let Some((state, tokens)) = waiting.next_if(|(_, tokens)| tokens.len() == left) {
            joining.push(state);
            reading.push(tokens);
        }
        if joining.is_empty() {
            return Err(Error::config("prompts", "at least one", "none"));
        }
        let now = if joining.len() == 1 { joining.remove(0) } else { State::cat(joining) };
        let next = waiting.peek().map_or(0, |(_, tokens)| tokens.len());
        let length = PREFILL_TOKENS.min(left - next);
        let ids = ids(model, &reading, left, length);
        if length < left {
            state = Some(model.read(ids, now));
            left -= length;
            continue;
        }
        let (logits, state) = model.forward_last(ids, now);
        let back: Vec<usize> =
            (0..order.len()).map(|row| order.iter().position(|&r| r == row).unwrap_or(row)).collect();
        if back.is_sorted() {
            return Ok((logits, state));
        }
        return Ok((select_rows(logits, &back), state.select(&back)));
    }
}

/// The next `length` of the last `left` tokens of every prompt: `[prompts, length]`.
fn ids<B: RwkvBackend>(model: &Rwkv<B>, prompts: &[&[u32]], left: usize, length: usize) -> Tensor<B, 2, Int> {
    let piece = |tokens: &&[u32]| {
        let start = tokens.len() - left;
        tokens[start..start + length].iter().map(|&token| i64::from(token)).collect::<Vec<_>>()
    };
    let ids: Vec<i64> = prompts.iter().flat_map(piece).collect();
    Tensor::from_data(TensorData::new(ids, [prompts.len(), length]), &model.device())
}

fn select_rows<B: RwkvBackend>(logits: Tensor<B, 2>, rows: &[usize]) -> Tensor<B, 2> {
    let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let indices = Tensor::from_data(indices.as_slice(), &logits.device());
    logits.select(0, indices)
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
