//! The program's arguments.

use crate::Backend;
use crate::model::ModelArgs;
use crate::sampling::SamplingArgs;
use clap::Parser;
use std::path::PathBuf;

/// Continues a prompt, or a file of prompts as one batch.
#[derive(Parser)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// Tokenizer file [default: tokenizer.json beside the model].
    #[arg(long)]
    pub(super) tokenizer: Option<PathBuf>,
    /// Text to continue.
    #[arg(long, required_unless_present = "prompts_file")]
    pub(super) prompt: Option<String>,
    /// File with one prompt a line: all are continued as one batch, the first with the seed, the next with seed + 1, …
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "stream"])]
    pub(super) prompts_file: Option<PathBuf>,
    /// How many tokens to write at most.
    #[arg(long, default_value_t = 200)]
    pub(super) tokens: usize,
    /// End before this text; may be repeated.
    #[arg(long, value_name = "STRING")]
    pub(super) stop: Vec<String>,
    /// End before this token; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(super) stop_token: Vec<u32>,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Report each token's log-probability and this many most probable tokens; needs --json.
    #[arg(long, value_name = "N", requires = "json")]
    pub(super) logprobs: Option<usize>,
    /// Print each piece of text as it comes.
    #[arg(long, conflicts_with = "json")]
    pub(super) stream: bool,
    /// Write the state after the last token to a file; of a batch, all of its states.
    #[arg(long, value_name = "FILE")]
    pub(super) save_state: Option<PathBuf>,
    /// Begin with the state in a file instead of the empty one; a batch may begin with one state or with its own.
    #[arg(long, value_name = "FILE")]
    pub(super) load_state: Option<PathBuf>,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    pub(super) backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}
