//! The library's own models as a [`LanguageModel`].
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Lm`], the adapter |
//! | `trie.rs` | which tokens are read once for several requests |
//! | `reader.rs` | pieces of text read together, ragged, without padding in any state |
//! | `head.rs` | log-probabilities of tokens from the residual stream |

mod head;
mod reader;
mod trie;

use crate::error::{Error, Result};
use crate::model::{Batching, Finished, LanguageModel};
use crate::request::{GenerateRequest, Likelihood, TokenRequest, Until};
use burn::tensor::{Int, Tensor};
use head::Head;
use reader::{Held, Reader, Segment};
use rwkv_core::generate::{BatchGenerator, BatchRow, Output, Sampler, check_tokens};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::Tokenizer;
use trie::{Node, Trie};

/// Activations that exist at the same time in a block, as multiples of its width, roughly.
const ACTIVATIONS: usize = 16;
/// Tokens of all rows that are read in one pass, at most.
const PASS_TOKENS: usize = 4096;
/// Requests whose common beginnings are looked for together, at most.
const WINDOW: usize = 4096;

/// A model of this library that answers requests.
///
/// Requests are put in the order of their tokens, and common beginnings are read once, from a few
/// thousand requests at a time: a question before its choices, worked examples before several questions, a passage that
/// several questions are about. The state after a beginning is forked for what follows it. Only states after equally many
/// tokens are put together in a batch, so that a model whose state grows with the text can be evaluated the same way.
///
/// The head sees the positions that are scored and no others, and log-probabilities are gathered on the device: no table of
/// logits leaves it.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_eval::lm::Lm;
/// use rwkv_eval::model::{Batching, LanguageModel};
/// use rwkv_eval::request::TokenRequest;
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let choice = |tokens: &[u32]| TokenRequest { context: (1..=8).collect(), continuation: tokens.to_vec() };
/// let mut answers = [0.0; 2];
/// let read = Lm::new(&model)
///     .log_likelihoods(&[choice(&[9]), choice(&[10, 11])], &Batching::default(), &mut |request, likelihood| {
///         answers[request] = likelihood.log_likelihood;
///         Ok(())
///     })
///     .unwrap();
/// assert_eq!(read, 9); // the question once, and one token of the second choice
/// assert!(answers.iter().all(|&answer| answer < 0.0));
/// # }
/// ```
#[derive(Debug)]
pub struct Lm<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
}

impl<'a, B: RwkvBackend> Lm<'a, B> {
    /// Around a model.
    #[must_use]
    pub fn new(model: &'a Rwkv<B>) -> Self {
        Self { model }
    }

    /// Bytes of one sequence's state after so many tokens, from what the second token adds to it.
    fn state_bytes(&self, tokens: usize) -> usize {
        let token = || ids(vec![0], 1, &self.model.device());
        let first = self.model.read(token(), self.model.zero_state(1));
        let after_first = first.size_bytes();
        let growth = self.model.read(token(), first).size_bytes() - after_first;
        after_first + growth * tokens.saturating_sub(1)
    }

    /// Rows of a batch, tokens of a row in one pass, and requests in a window that fit the memory, where the longest request
    /// reads `tokens` tokens.
    fn limits(&self, tokens: usize, batching: &Batching) -> Result<Limits> {
        let config = self.model.config();
        let per_token = size_of::<f32>() * (ACTIVATIONS * config.n_embd.max(config.dim_att) + 3 * config.dim_ffn);
        let state = self.state_bytes(tokens);
        // Attention also has its scores, of all tokens before.
        let per_token = if state == self.state_bytes(1) {
            per_token
        } else {
            per_token + size_of::<f32>() * config.n_embd.max(tokens)
        };
        let logits = size_of::<f32>() * config.vocab_size * 2;
        // A quarter each for logits and held states, a half for what is being read.
        let one = 2 * (state + per_token);
        let needed = one.max(4 * logits).max(4 * state);
        if needed > batching.memory {
            let megabytes = |bytes: usize| bytes.div_ceil(1_000_000);
            return Err(Error::Memory { tokens, needed: megabytes(needed), allowed: batching.memory / 1_000_000 });
        }
        let (half, quarter) = (batching.memory / 2, batching.memory / 4);
        let rows = batching.rows.clamp(1, half / (state + per_token));
        let pass = ((half - rows * state) / (rows * per_token)).min(PASS_TOKENS / rows).max(1);
        Ok(Limits {
            rows,
            pass,
            logit_rows: (quarter / logits).clamp(1, PASS_TOKENS),
            window: (quarter / state).clamp(1, WINDOW),
        })
    }
}

/// What fits the memory.
struct Limits {
    rows: usize,
    /// Tokens of a row in one pass.
    pass: usize,
    /// Positions whose logits exist at the same time.
    logit_rows: usize,
    /// Requests whose states may be held.
    window: usize,
}

impl<B: RwkvBackend> LanguageModel for Lm<'_, B> {
    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    fn log_likelihoods(
        &self,
        requests: &[TokenRequest],
        batching: &Batching,
        finished: &mut Finished<'_>,
    ) -> Result<usize> {
        let vocab_size = self.vocab_size();
        for request in requests {
            if request.context.is_empty() || request.continuation.is_empty() {
                let problem = "a context and a continuation of at least one token each";
                return Err(rwkv_core::error::Error::config("request", problem, "an empty one").into());
            }
            check_tokens(&request.context, vocab_size)?;
            check_tokens(&request.continuation, vocab_size)?;
        }
        let Some(longest) = requests.iter().map(TokenRequest::input_len).max() else { return Ok(0) };
        let limits = self.limits(longest, batching)?;
        let mut read = 0;
        for trie in Trie::windows(requests, limits.window, batching.prefix_sharing) {
            read += self.answer(&trie, &limits, finished)?;
        }
        Ok(read)
    }

    fn generate_until(
        &self,
        requests: &[GenerateRequest],
        until: &Until,
        tokenizer: &dyn Tokenizer,
        batching: &Batching,
    ) -> Result<Vec<String>> {
        let decode = |ids: &[u32]| tokenizer.decode(ids);
        let output = Output {
            decode: Some(&decode),
            max_tokens: Some(until.max_tokens),
            stop_tokens: tokenizer.end_of_text().into_iter().collect(),
            stop_strings: until.strings.clone(),
            logprobs: None,
        };
        // Texts of similar lengths are read together.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&request| requests[request].context.len());
        let mut texts = vec![String::new(); requests.len()];
        for batch in order.chunks(batching.rows.max(1)) {
            let row = |&request: &usize| {
                let prompt = requests[request].context.clone();
                Ok(BatchRow { state: self.model.zero_state(1), prompt, sampler: Sampler::new(0.0, 1.0, 0, 0)? })
            };
            let rows = batch.iter().map(row).collect::<Result<_>>()?;
            B::burst(|| {
                BatchGenerator::new(self.model, rows, &output)?.try_for_each(|step| {
                    step.map(|pieces| pieces.into_iter().for_each(|(row, piece)| texts[batch[row]] += &piece.text))
                })
            })?;
        }
        Ok(texts)
    }
}

impl<B: RwkvBackend> Lm<'_, B> {
    /// Reads a trie, one level of nodes after the other.
    fn answer(&self, trie: &Trie<'_>, limits: &Limits, finished: &mut Finished<'_>) -> Result<usize> {
        let head = Head { model: self.model, rows: limits.logit_rows };
        let mut sums = vec![Likelihood { log_likelihood: 0.0, is_greedy: true }; trie.requests.len()];
        let mut held: Vec<Option<Held<B>>> = (0..trie.nodes.len()).map(|_| None).collect();
        let mut read = 0;
        for level in trie.levels() {
            for batch in batches(&trie.nodes, level, limits.rows) {
                let segments: Vec<Segment<'_>> = batch
                    .iter()
                    .map(|&id| {
                        let node = &trie.nodes[id];
                        let request = trie.request(node.first);
                        Segment { request, start: node.start, end: node.end, keep: node.has_children }
                    })
                    .collect();
                let parents: Option<Vec<Held<B>>> =
                    batch.iter().map(|&id| trie.nodes[id].parent.and_then(|parent| held[parent].clone())).collect();
                let mut reader = Reader::new(self.model, &segments, parents, limits.pass);
                while let Some(pass) = reader.next_pass() {
                    let pairs = pass.rows.iter().enumerate().flat_map(|(row, &segment)| {
                        let node = &trie.nodes[batch[segment]];
                        trie.scored(node, pass.from, pass.to)
                            .map(move |(request, position, target)| (request, (row, position - pass.from), target))
                    });
                    let pairs: Vec<_> = pairs.collect();
                    let places: Vec<_> = pairs.iter().map(|&(_, place, target)| (place, target)).collect();
                    for (&(request, ..), (log_probability, is_greedy)) in pairs.iter().zip(head.score(pass.x, &places))
                    {
                        sums[request].log_likelihood += log_probability;
                        sums[request].is_greedy &= is_greedy;
                    }
                }
                read += segments.iter().map(|segment| segment.end - segment.start).sum::<usize>();
                for (segment, state) in reader.into_kept() {
                    held[batch[segment]] = Some(state);
                }
                for &id in &batch {
                    for request in trie.ending(&trie.nodes[id]) {
                        finished(trie.requests[request], sums[request])?;
                    }
                }
            }
            // What a level's nodes began with, nobody needs any more.
            for &id in level {
                if let Some(parent) = trie.nodes[id].parent {
                    held[parent] = None;
                }
            }
        }
        Ok(read)
    }
}

/// Nodes of a level that are read together: they begin after equally many tokens, and those of similar lengths keep company.
fn batches(nodes: &[Node], level: &[usize], rows: usize) -> Vec<Vec<usize>> {
    let mut order = level.to_vec();
    order.sort_by_key(|&id| (nodes[id].start, std::cmp::Reverse(nodes[id].end), id));
    let equal_starts = order.chunk_by(|&a, &b| nodes[a].start == nodes[b].start);
    equal_starts.flat_map(|nodes| nodes.chunks(rows).map(<[usize]>::to_vec)).collect()
}

/// Token ids as a tensor, `[rows, time]`.
fn ids<B: RwkvBackend>(ids: Vec<i64>, rows: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    let time = ids.len() / rows;
    Tensor::from_data(burn::tensor::TensorData::new(ids, [rows, time]), device)
}
