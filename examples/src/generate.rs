//! Writes text with a trained model.

use crate::{Backend, Failure, report, run, with_backend};
use clap::Parser;
use rwkv_core::checkpoint::{self, TOKENIZER_FILE};
use rwkv_core::generate::{Generator, Sampler};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;
use rwkv_core::tokenizer::{AnyTokenizer, TokenStream, Tokenizer};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Continues a prompt.
#[derive(Parser)]
struct Args {
    /// Safetensors file or run directory.
    #[arg(long)]
    model: PathBuf,
    /// Tokenizer file [default: tokenizer.json beside the model].
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Text to continue.
    #[arg(long)]
    prompt: String,
    /// How many tokens to write.
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Below 1: nearer to the most probable token; 0: always that one.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draw from the most probable tokens that make up this share.
    #[arg(long, default_value_t = 0.85)]
    top_p: f32,
    /// Draw from this many most probable tokens; 0: no limit.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print each piece of text as it comes.
    #[arg(long, conflicts_with = "json")]
    stream: bool,
    /// Write the state after the last token to a file.
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
    /// Begin with the state in a file instead of the empty one.
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    prompt: String,
    text: String,
    tokens: Vec<u32>,
    seconds: f64,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| generate::<B>(&args, device)))
}

fn generate<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    let sampler = Sampler::new(args.temperature, args.top_p, args.top_k, args.seed)?;
    let model = checkpoint::load::<B>(&args.model, &device)?;
    let file = tokenizer_file(args);
    let tokenizer = AnyTokenizer::load(&file)?;
    tokenizer.check_fits(model.config().vocab_size).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    let prompt = tokenizer.encode_prompt(&args.prompt).map_err(|error| Failure(format!("prompt: {error}")))?;
    let state = match &args.load_state {
        Some(file) => State::load(file, &model.config(), &device)?,
        None => model.zero_state(1),
    };
    let mut generator = Generator::new(&model, state, &prompt, sampler)?;

    let started = Instant::now();
    let mut stream = TokenStream::new(&tokenizer);
    let mut text = String::new();
    let mut tokens = Vec::new();
    if args.stream {
        show(&args.prompt)?;
    }
    for token in generator.by_ref().take(args.tokens) {
        let piece = stream.push(token)?;
        if args.stream {
            show(&piece)?;
        }
        text += &piece;
        tokens.push(token);
    }
    let rest = stream.finish();
    text += &rest;
    if let Some(file) = &args.save_state {
        generator.into_state().save(file)?;
    }
    if args.stream {
        show(&format!("{rest}\n"))?;
        return Ok(());
    }
    let outcome = Outcome { prompt: args.prompt.clone(), text, tokens, seconds: started.elapsed().as_secs_f64() };
    report::print(args.json, &outcome, format!("{}{}", outcome.prompt, outcome.text))
}

fn tokenizer_file(args: &Args) -> PathBuf {
    args.tokenizer.clone().unwrap_or_else(|| checkpoint::model_file(&args.model).with_file_name(TOKENIZER_FILE))
}

fn show(piece: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(piece.as_bytes())?;
    Ok(out.flush()?)
}
