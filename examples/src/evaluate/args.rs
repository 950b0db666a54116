//! The program's arguments.

use crate::Backend;
use crate::model::ModelArgs;
use clap::Parser;
use rwkv_eval::encode::ContextStart;
use std::path::PathBuf;

/// Scores a model on tasks, with the prompts, splits and metrics of lm-evaluation-harness.
///
/// With --out an evaluation that was interrupted goes on: answers are written to FILE.journal as they come, and the same
/// command finds them there.
#[derive(Parser)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// Tokenizer file [default: tokenizer.json beside the model].
    #[arg(long)]
    pub(super) tokenizer: Option<PathBuf>,
    /// Tasks, with commas between them; the paper has `lambada_openai,piqa,winogrande,arc_easy,arc_challenge,sciq`.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(super) tasks: Vec<String>,
    /// Folder of the data: DIR/TASK/SPLIT.jsonl, with the data sets' official columns.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Fetch data that is not in the folder from the Hugging Face hub, where it is published, into it.
    #[arg(long)]
    pub(super) download: bool,
    /// Ask another split of a task than the harness does; may be repeated.
    #[arg(long, value_name = "TASK=SPLIT", value_parser = split)]
    pub(super) split: Vec<(String, String)>,
    /// Ask the first N documents of each task only.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) limit: Option<usize>,
    /// Before the text: nothing (harness), or a newline as published RWKV-4 scores were made (reference).
    #[arg(long, default_value = "harness")]
    pub(super) context_start: ContextStart,
    /// Worked examples before each question.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) num_fewshot: usize,
    /// Requests that are read at once.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = positive)]
    pub(super) batch_size: usize,
    /// Read every request from its beginning, even where others begin alike.
    #[arg(long)]
    pub(super) no_prefix_sharing: bool,
    /// Tokens that the model reads of a request at most; longer ones are cut from the left, and counted.
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = positive)]
    pub(super) max_length: usize,
    /// Memory for states, activations and logits, beside the weights, in MB.
    #[arg(long, default_value_t = 2048, value_name = "MB", value_parser = positive)]
    pub(super) memory: usize,
    /// Resamples for the standard error of a perplexity; 0 for none.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub(super) resamples: usize,
    /// Write the result here, as JSON, and beside it as Markdown and as an HTML page with its chart.
    #[arg(long, value_name = "FILE.json", value_parser = json_file)]
    pub(super) out: Option<PathBuf>,
    /// Write one line of JSON a request here.
    #[arg(long, value_name = "FILE")]
    pub(super) log_samples: Option<PathBuf>,
    /// Seed of the draw of worked examples.
    #[arg(long, default_value_t = 1234)]
    pub(super) seed: u64,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    pub(super) backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a positive number".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// A name that ends as its content does.
fn json_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let named = path.extension().is_some_and(|ending| ending == "json");
    if named {
        Ok(path)
    } else {
        Err("expected a name that ends with .json; the report's other files stand beside it".to_owned())
    }
}

/// Reads `TASK=SPLIT`.
fn split(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((task, split)) if !task.is_empty() && !split.is_empty() => Ok((task.to_owned(), split.to_owned())),
        _ => Err("expected a task and a split, as in sciq=validation".to_owned()),
    }
}
