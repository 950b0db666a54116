//! Looks into a model: how long its channels remember, and which tokens a prediction used on which way.

mod plots;
mod trace;

use crate::model::{self, ModelArgs};
use crate::{Backend, Failure, report, run, with_backend};
use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{Int, Tensor};
use clap::Parser;
use rwkv_core::error::Error;
use rwkv_core::files::write_atomic;
use rwkv_core::generate::check_tokens;
use rwkv_core::model::{Rwkv, expert_usage};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::{AnyTokenizer, TokenStream, Tokenizer};
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use trace::Trace;

/// Longer prompts would make a picture that nobody can read, and a batch as large as its square.
const MAX_TOKENS: usize = 128;

/// Plots the decay of every channel, and traces which tokens of a prompt a prediction used.
///
/// Noise is added to the embeddings of one token at a time, which shows how much the prediction needs each. Then, with
/// noise on the token before the last that it needs most (or on --corrupt), the clean residual stream is put back at one token and
/// layer at a time: where that mends the prediction, the information passed through.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokenizer file [default: tokenizer.json beside the model].
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Text before the prediction; without one only the decays are plotted.
    #[arg(long)]
    prompt: Option<String>,
    /// Text whose first token is the prediction [default: the most probable token].
    #[arg(long, requires = "prompt")]
    target: Option<String>,
    /// Tokens to add noise to, counted from 0, the end left out, as in 2..5 [default: the one before the last that matters most].
    #[arg(long, requires = "prompt", value_name = "FROM..TO", value_parser = range)]
    corrupt: Option<Range<usize>>,
    /// Standard deviation of the noise, as a multiple of that of the embeddings.
    #[arg(long, default_value_t = 3.0)]
    noise: f64,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for decay.svg and trace.svg.
    #[arg(long, value_name = "DIR", default_value = "inspected")]
    out: PathBuf,
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
    decay_plot: PathBuf,
    /// `e^w` of every layer's channels, from the shortest memory to the longest.
    decays: Vec<Vec<f64>>,
    #[serde(flatten)]
    traced: Option<Traced>,
}

#[derive(Serialize)]
struct Traced {
    trace_plot: PathBuf,
    /// The prompt's tokens as text.
    tokens: Vec<String>,
    /// The predicted token as text.
    target: String,
    /// For layers with a mixture of experts, each expert's share of the choices for the prompt's tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experts: Vec<Experts>,
    #[serde(flatten)]
    trace: Trace,
}

#[derive(Serialize)]
struct Experts {
    layer: usize,
    usage: Vec<f64>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| inspect::<B>(&args, device)))
}

fn inspect<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    if !(args.noise.is_finite() && args.noise > 0.0) {
        return Err(Error::config("noise", "a positive number", args.noise).into());
    }
    let (model, path) = args.model.load::<B>(&device)?;
    let traced = match &args.prompt {
        Some(prompt) => {
            let tokenizer = model::tokenizer(args.tokenizer.as_deref(), &path, &model)?;
            Some(trace_prompt(args, &model, &tokenizer, prompt)?)
        }
        None => None,
    };
    std::fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    let time_mixes = model.blocks.iter().map(|block| block.att.rwkv4()).collect::<Option<Vec<_>>>();
    let time_mixes =
        time_mixes.ok_or_else(|| Failure("inspect looks at RWKV-4's decays, and this model has none".into()))?;
    let decays: Vec<Vec<f64>> = time_mixes.iter().map(|mixer| decays(mixer.time_decay.val())).collect();
    let decay_plot = args.out.join("decay.svg");
    write_atomic(&decay_plot, plots::decays(&decays)?.as_bytes())?;
    if let Some(traced) = &traced {
        write_atomic(&traced.trace_plot, plots::trace(traced)?.as_bytes())?;
    }
    let outcome = Outcome { decay_plot, decays, traced };
    report::print(args.json, &outcome, summary(&outcome))
}

fn trace_prompt<B: RwkvBackend>(
    args: &Args,
    model: &Rwkv<B>,
    tokenizer: &AnyTokenizer,
    prompt: &str,
) -> Result<Traced, Failure> {
    let encode = |what: &str, text: &str| {
        let ids = tokenizer.encode(text).map_err(|error| Failure(format!("{what}: {error}")))?;
        if ids.is_empty() { Err(Failure(format!("the {what} is empty"))) } else { Ok(ids) }
    };
    let ids = encode("prompt", prompt)?;
    check_tokens(&ids, model.config().vocab_size)?;
    if ids.len() > MAX_TOKENS {
        return Err(Failure(format!("the prompt has {} tokens, and at most {MAX_TOKENS} can be traced", ids.len())));
    }
    let target = args.target.as_deref().map(|text| Ok::<_, Failure>(encode("target", text)?[0])).transpose()?;
    if let Some(range) = &args.corrupt
        && (range.is_empty() || range.end > ids.len())
    {
        let (from, to) = (range.start, range.end);
        return Err(Failure(format!("--corrupt {from}..{to} is no part of the prompt's {} tokens", ids.len())));
    }
    let trace = trace::run(model, &ids, target, args.corrupt.clone(), args.noise, args.seed);
    let text = |ids: &[u32]| -> Result<String, Failure> {
        let mut stream = TokenStream::new(tokenizer);
        let text = ids.iter().map(|&id| stream.push(id)).collect::<Result<String, _>>()?;
        Ok(text + &stream.finish())
    };
    let tokens = ids.iter().map(|&id| text(&[id])).collect::<Result<_, _>>()?;
    let target = text(&[trace.target_id]).unwrap_or_else(|_| trace.target_id.to_string());
    let row: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let row = Tensor::<B, 1, Int>::from_data(row.as_slice(), &model.device()).unsqueeze();
    let experts = expert_usage(model, row).into_iter().map(|(layer, usage)| Experts { layer, usage }).collect();
    Ok(Traced { trace_plot: args.out.join("trace.svg"), tokens, target, experts, trace })
}

/// `e^{−e^{time_decay}}`, in order.
fn decays<B: BurnBackend>(time_decay: Tensor<B, 1>) -> Vec<f64> {
    let mut decays: Vec<f64> = time_decay.into_data().iter::<f64>().map(|decay| (-decay.exp()).exp()).collect();
    decays.sort_by(f64::total_cmp);
    decays
}

fn summary(outcome: &Outcome) -> String {
    let mut text = format!("decays of {} layers: {}", outcome.decays.len(), outcome.decay_plot.display());
    if let Some(Traced { trace_plot, tokens, target, experts, trace }) = &outcome.traced {
        text += &format!(
            "\nprediction {target:?}: probability {:.4}, {:.4} with noise on {:?}\n\nloss of probability with noise on one token",
            trace.clean,
            trace.corrupted,
            tokens[trace.corrupt.clone()].concat()
        );
        for (token, effect) in tokens.iter().zip(&trace.token_effects) {
            text += &format!("\n{effect:>8.4}  {token:?}");
        }
        for Experts { layer, usage } in experts {
            let shares: Vec<String> = usage.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect();
            text += &format!("\nexperts of layer {layer}, each one's share of the choices: {}", shares.join(", "));
        }
        text += &format!("\n\nways of the information: {}", trace_plot.display());
    }
    text
}

/// Reads `FROM..TO`.
fn range(text: &str) -> Result<Range<usize>, String> {
    let wrong = || "expected two token numbers, as in 2..5".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    Ok(from.trim().parse().map_err(|_| wrong())?..to.trim().parse().map_err(|_| wrong())?)
}
