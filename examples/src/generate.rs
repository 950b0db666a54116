//! Writes text with a trained model.

mod args;
mod outcome;

use crate::{Backend, Failure, model, report, run, with_backend};
use args::Args;
use clap::Parser;
use outcome::{Outcome, Speed, Text};
use rwkv_core::generate::{BatchGenerator, BatchRow, Generator, Output, Sampler};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| generate::<B>(&args, device)))
}

fn generate<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    // Wrong settings are told before the model is read.
    let sampler = Sampler::from_config(args.sampling.config(), args.seed)?;
    let prompts = args.prompts_file.as_deref().map(read_prompts).transpose()?;
    let (model, path) = args.model.load::<B>(&device)?;
    let tokenizer = model::tokenizer(args.tokenizer.as_deref(), &path, &model)?;
    let decode = |ids: &[u32]| tokenizer.decode(ids);
    let output = Output {
        decode: Some(&decode),
        max_tokens: Some(args.tokens),
        stop_tokens: args.stop_token.clone(),
        stop_strings: args.stop.clone(),
        logprobs: args.logprobs,
    };
    // The fingerprint takes a pass over the weights: only who deals in states pays for it.
    let fingerprint = (args.load_state.is_some() || args.save_state.is_some()).then(|| model.fingerprint());
    let state = match (&args.load_state, &fingerprint) {
        (Some(file), Some(fingerprint)) => State::load(file, fingerprint, &device)?,
        _ => model.zero_state(1),
    };
    let (outcome, state) = match (&prompts, &args.prompt) {
        (Some(prompts), _) => batch(args, &model, &tokenizer, prompts, state, &output)?,
        (None, prompt) => one(args, &model, &tokenizer, prompt.as_deref().unwrap_or_default(), state, sampler, output)?,
    };
    if let (Some(file), Some(fingerprint)) = (&args.save_state, &fingerprint) {
        state.save(file, fingerprint)?;
    }
    if args.stream {
        return show("\n");
    }
    let for_people = match &outcome {
        Outcome::One { text, .. } => format!("{}{}", text.prompt, text.text),
        Outcome::Batch { texts, .. } => {
            texts.iter().map(|text| format!("{}{}", text.prompt, text.text)).collect::<Vec<_>>().join("\n")
        }
    };
    report::print(args.json, &outcome, for_people)
}

/// Continues one prompt.
fn one<B: RwkvBackend>(
    args: &Args,
    model: &Rwkv<B>,
    tokenizer: &AnyTokenizer,
    prompt: &str,
    state: State<B>,
    sampler: Sampler,
    output: Output<'_>,
) -> Result<(Outcome, State<B>), Failure> {
    let tokens = tokenizer.encode_prompt(prompt).map_err(|error| Failure(format!("prompt: {error}")))?;
    let started = Instant::now();
    let mut generator = Generator::with_output(model, state, &tokens, sampler, output)?;
    let prefill = started.elapsed();
    let mut text = Text::new(prompt);
    if args.stream {
        show(prompt)?;
    }
    let started = Instant::now();
    B::burst(|| {
        generator.by_ref().try_for_each(|step| {
            let step = step?;
            if args.stream {
                show(&step.text)?;
            }
            text.push(step);
            Ok::<_, Failure>(())
        })
    })?;
    let speed = Speed::new(tokens.len(), prefill, text.tokens.len(), started.elapsed());
    Ok((Outcome::One { text, speed }, generator.into_state()))
}

/// Continues all prompts of a file.
fn batch<B: RwkvBackend>(
    args: &Args,
    model: &Rwkv<B>,
    tokenizer: &AnyTokenizer,
    prompts: &[String],
    state: State<B>,
    output: &Output<'_>,
) -> Result<(Outcome, State<B>), Failure> {
    let states = state.batch();
    if states != 1 && states != prompts.len() {
        return Err(Failure(format!("there are {states} states for {} prompts", prompts.len())));
    }
    let row = |(i, prompt): (usize, &String)| -> Result<BatchRow<B>, Failure> {
        Ok(BatchRow {
            state: state.select(&[if states == 1 { 0 } else { i }]),
            prompt: tokenizer.encode_prompt(prompt).map_err(|error| Failure(format!("prompt {}: {error}", i + 1)))?,
            sampler: Sampler::from_config(args.sampling.config(), args.seed.wrapping_add(i as u64))?,
        })
    };
    let rows = prompts.iter().enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    let prompt_tokens = rows.iter().map(|row| row.prompt.len()).sum();
    let started = Instant::now();
    let mut generator = BatchGenerator::new(model, rows, output)?;
    let prefill = started.elapsed();
    let mut texts: Vec<Text> = prompts.iter().map(|prompt| Text::new(prompt)).collect();
    let started = Instant::now();
    B::burst(|| {
        generator
            .by_ref()
            .try_for_each(|step| step.map(|written| written.into_iter().for_each(|(row, step)| texts[row].push(step))))
    })?;
    let written = texts.iter().map(|text| text.tokens.len()).sum();
    let speed = Speed::new(prompt_tokens, prefill, written, started.elapsed());
    Ok((Outcome::Batch { texts, speed }, generator.into_state()))
}

/// The lines of a file, none of them empty.
fn read_prompts(path: &Path) -> Result<Vec<String>, Failure> {
    let failure = |problem: String| Failure(format!("{} {problem}", path.display()));
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
    let prompts: Vec<String> = text.lines().map(str::to_owned).collect();
    match prompts.iter().position(String::is_empty) {
        Some(line) => Err(failure(format!("has no prompt in line {}", line + 1))),
        None if prompts.is_empty() => Err(failure("has no prompts".to_owned())),
        None => Ok(prompts),
    }
}

fn show(piece: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(piece.as_bytes())?;
    Ok(out.flush()?)
}
