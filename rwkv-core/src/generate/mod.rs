//! Writing text: prompts are read in the time-parallel mode, and tokens are written in the recurrent one.
//!
//! | file | holds |
//! |---|---|
//! | `generator.rs` | [`Generator`]: one text, token by token |
//! | `batch.rs` | [`BatchGenerator`]: many texts at once, each as if it were alone |
//! | `output.rs` | [`Output`] and [`Generated`]: what is asked for with each token, and what comes |
//! | `writer.rs` | from logits to the next piece of one text, shared by both generators |
//! | `stop.rs` | [`Finish`], and stop strings on decoded text |
//! | `logprobs.rs` | [`Logprobs`]: log-probabilities of the model's own distribution |
//! | `prefill.rs` | reading prompts, one or many of unequal lengths |
//! | `prefix_cache.rs` | [`PrefixCache`]: states after prompts that were read before |
//! | `sampling/` | [`Sampler`]: penalties, cuts, temperature and the draw |

mod batch;
mod generator;
mod logprobs;
mod output;
mod prefill;
mod prefix_cache;
mod sampling;
mod stop;
mod writer;

pub use batch::{BatchGenerator, BatchRow};
pub use generator::Generator;
pub use logprobs::{Logprobs, TokenLogprob};
pub use output::{Decode, Generated, Output};
pub use prefill::{check_tokens, prefill, prefill_rows};
pub use prefix_cache::{CacheStatistics, PrefixCache};
pub use sampling::{Sampler, SamplerConfig};
pub use stop::Finish;
