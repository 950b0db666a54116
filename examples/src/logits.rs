//! Prints a model's logits for a list of token ids.

use crate::model::ModelArgs;
use crate::{Backend, Failure, report, run, with_backend};
use burn::tensor::{Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use rwkv_core::generate::{check_tokens, prefill};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Logits of the next token, after the last of a list of tokens or after every one.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, as in 1,2,3.
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// Read the tokens at once, or one by one.
    #[arg(long, default_value = "parallel")]
    mode: Mode,
    /// Logits after every token, not only after the last.
    #[arg(long)]
    all: bool,
    /// Begin with the state in a file, as `generate --save-state` writes it, instead of the empty one.
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
    /// Accepted as in every program; nothing here is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print {"logits": [...]} on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// All tokens in one pass.
    Parallel,
    /// One token after the other.
    Recurrent,
}

/// What the program reports: one list, or one per token with `--all`.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Last { logits: Vec<f32> },
    All { logits: Vec<Vec<f32>> },
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| logits::<B>(&args, device)))
}

fn logits<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    let (model, _) = args.model.load::<B>(&device)?;
    check_tokens(&args.tokens, model.config().vocab_size)?;
    let state = match &args.load_state {
        Some(file) => State::load(file, &model.fingerprint(), &device)?,
        None => model.zero_state(1),
    };
    if state.batch() != 1 {
        return Err(Failure(format!("--load-state: expected one sequence, found {}", state.batch())));
    }
    let mut rows = match args.mode {
        // The last position alone needs no logits of the others.
        Mode::Parallel if !args.all => vec![values(prefill(&model, state, &args.tokens)?.0)],
        Mode::Parallel => parallel(&model, state, &args.tokens, &device),
        Mode::Recurrent => recurrent(&model, state, &args.tokens, &device),
    };
    let last = rows.last().cloned().unwrap_or_default();
    let outcome = if args.all {
        Outcome::All { logits: std::mem::take(&mut rows) }
    } else {
        Outcome::Last { logits: last.clone() }
    };
    report::print(args.json, &outcome, table(&last))
}

fn parallel<B: RwkvBackend>(model: &Rwkv<B>, state: State<B>, tokens: &[u32], device: &B::Device) -> Vec<Vec<f32>> {
    let ids: Vec<i32> = tokens.iter().map(|token| token.cast_signed()).collect();
    let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [1, tokens.len()]), device);
    let (logits, _) = model.forward(ids, state);
    let vocab = logits.dims()[2];
    let flat = values(logits);
    flat.chunks(vocab).map(<[f32]>::to_vec).collect()
}

fn recurrent<B: RwkvBackend>(model: &Rwkv<B>, state: State<B>, tokens: &[u32], device: &B::Device) -> Vec<Vec<f32>> {
    let mut state = Some(state);
    let step = |token: &u32| {
        let token = Tensor::from_data(TensorData::new(vec![token.cast_signed()], [1]), device);
        let (logits, next) = model.step(token, state.take()?);
        state = Some(next);
        Some(values(logits))
    };
    tokens.iter().map_while(step).collect()
}

fn values<B: RwkvBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The ten largest logits, for people.
fn table(logits: &[f32]) -> String {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&i, &j| logits[j].total_cmp(&logits[i]));
    let rows = order.iter().take(10).map(|&i| format!("{i:>8}  {:>10.4}", logits[i]));
    format!("   token       logit (the ten largest after the last token)\n{}", rows.collect::<Vec<_>>().join("\n"))
}
