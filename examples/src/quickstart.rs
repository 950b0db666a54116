//! Trains a small RWKV-4 on the CPU in about a minute, shows that its two modes agree, and lets it write.

use crate::progress::Progress;
use crate::{Backend, Failure, allocator, corpus, report, run, with_backend};
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::tensor::{Int, Tensor, TensorData};
use clap::Parser;
use rwkv_core::error::Error;
use rwkv_core::generate::{Generator, Output, Sampler};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::{RwkvAutodiffBackend, RwkvBackend};
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::{AnyTokenizer, CharTokenizer, Tokenizer};
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Dataset, WindowOptions};
use rwkv_train::error::Result as TrainResult;
use rwkv_train::metrics::Metrics;
use rwkv_train::plot::plot_loss;
use rwkv_train::run_dir::RunDir;
use rwkv_train::trainer::{Observer, Trainer};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Trains a small RWKV-4 on an embedded corpus, draws the loss, compares the two modes and writes text.
#[derive(Parser)]
struct Args {
    /// Backend; flex needs nothing installed.
    #[arg(long)]
    backend: Option<Backend>,
    /// Seed of the weights, the batches and the text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Optimizer steps.
    #[arg(long, default_value_t = 500)]
    steps: usize,
    /// Where the model, its metrics and the plot go.
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    allocator::for_training();
    let args = Args::parse();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| quickstart::<Autodiff<B>>(&args, device)))
}

/// The recipe: small enough for a minute of two CPU cores.
fn recipe(args: &Args) -> Result<RunConfig, Failure> {
    let mut config = RunConfig::from_toml(
        "[model]
         n_layer = 3
         n_embd = 96
         [train]
         ctx_len = 128
         batch_size = 8
         lr_init = 3e-3
         lr_final = 3e-4
         warmup_steps = 20
         val_every = 100
         val_windows = 100
         save_every = 0",
    )
    .map_err(Failure)?;
    config.train.seed = args.seed;
    config.train.steps = args.steps;
    Ok(config)
}

fn quickstart<B: RwkvAutodiffBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    let mut config = recipe(args)?;
    let text = corpus::stories(600, 1);
    let corpus_file = args.out.join("corpus.txt");
    if args.out.join("metrics.jsonl").exists() && !corpus_file.exists() {
        return Err(Failure(format!("{} holds another run; choose another folder by --out", args.out.display())));
    }
    std::fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    std::fs::write(&corpus_file, &text).map_err(Error::io("write", &corpus_file))?;
    config.data.text = Some(corpus_file);
    let tokenizer = AnyTokenizer::from(CharTokenizer::from_text(&text));
    let options = WindowOptions::new(config.train.ctx_len, config.train.seed);
    let dataset = Dataset::split(tokenizer.encode(&text)?, config.data.val_fraction, options)?;
    let model_config = config.model_config(tokenizer.vocab_size());
    report::say(format_args!(
        "RWKV-4 with {} layers of width {}, {} parameters, on {} characters of little stories like this one:\n\n  {}\n",
        model_config.n_layer,
        model_config.n_embd,
        model_config.num_params(),
        text.chars().count(),
        text.lines().next().unwrap_or_default(),
    ))?;

    let model = Rwkv::<B>::new(&model_config, args.seed, &device);
    let mut trainer = Trainer::new(config.clone(), dataset, model, device)?;
    let before = trainer.validate(config.train.val_windows).loss;
    report::say(format_args!(
        "Training for {} steps. The held-out loss before is {before:.3} nats per character.",
        args.steps
    ))?;
    let started = Instant::now();
    let mut log = Log { progress: Progress::new(args.steps, 0), rows: Vec::new() };
    trainer.run(&mut log)?;
    log.progress.finish();
    let after = trainer.validate(config.train.val_windows).loss;
    report::say(format_args!("{}", chart(&log.rows)))?;
    report::say(format_args!(
        "Trained in {:.0} s; the held-out loss fell from {before:.3} to {after:.3}.",
        started.elapsed().as_secs_f64()
    ))?;

    let model = trainer.model().valid();
    let sample: String = text.chars().take(200).collect();
    let tokens = tokenizer.encode(&sample)?;
    let error = largest_difference(&model, &tokens);
    if error.is_nan() || error > 1e-3 {
        return Err(Failure(format!("the logits of the two modes differ by {error:.1e}")));
    }
    report::say(format_args!(
        "Read {} characters at once and one by one: the logits of the two modes differ by at most {error:.1e}.",
        tokens.len()
    ))?;

    report::say(format_args!("\nWriting, one character at a time, in constant memory:\n"))?;
    let written = write(&model, &tokenizer, "One ", 500, args.seed)?;
    let known: HashSet<&str> = words(&text).collect();
    let (total, familiar) = (words(&written).count(), words(&written).filter(|word| known.contains(word)).count());
    report::say(format_args!("\n\n{familiar} of the {total} words above are words of the corpus."))?;

    save(args, &config, &tokenizer, &trainer, &log.rows)?;
    report::say(format_args!(
        "The model, its metrics and the plot are in {0}; go on with\n  cargo run --release --example generate -- --model {0} --prompt 'One '",
        args.out.display()
    ))?;
    Ok(())
}

/// Keeps the rows for the chart.
struct Log {
    progress: Progress,
    rows: Vec<Metrics>,
}

impl<B: RwkvAutodiffBackend> Observer<B> for Log {
    fn after_step(&mut self, step: usize) {
        self.progress.at(step);
    }

    fn on_metrics(&mut self, metrics: &Metrics) -> TrainResult<()> {
        self.progress.show(metrics);
        self.rows.push(metrics.clone());
        Ok(())
    }
}

/// The training loss as a picture of characters.
fn chart(rows: &[Metrics]) -> String {
    const HEIGHT: usize = 10;
    const WIDTH: usize = 60;
    let high = rows.iter().map(|row| row.loss).fold(0.0, f64::max);
    let mut grid = vec![vec![' '; WIDTH]; HEIGHT];
    for x in 0..WIDTH.min(rows.len()) {
        let row = &rows[x * rows.len() / WIDTH.min(rows.len())];
        let y = ((1.0 - row.loss / high) * (HEIGHT - 1) as f64).round() as usize;
        grid[y.min(HEIGHT - 1)][x] = '•';
    }
    let label = |y: usize| high * (1.0 - y as f64 / (HEIGHT - 1) as f64);
    let lines =
        grid.iter().enumerate().map(|(y, line)| format!("{:6.2} ┤{}", label(y), line.iter().collect::<String>()));
    let last = rows.last().map_or(0, |row| row.step);
    let axis = format!("       └{}\n        0{:>59}", "─".repeat(WIDTH), format!("step {last}"));
    format!("\n  training loss (nats per character)\n{}\n{axis}\n", lines.collect::<Vec<_>>().join("\n"))
}

/// The largest difference between the logits of the time-parallel and the recurrent mode.
fn largest_difference<B: RwkvBackend>(model: &Rwkv<B>, tokens: &[u32]) -> f32 {
    let device = model.device();
    let ids: Vec<i32> = tokens.iter().map(|token| token.cast_signed()).collect();
    let whole = Tensor::<B, 2, Int>::from_data(TensorData::new(ids.clone(), [1, ids.len()]), &device);
    let (parallel, _) = model.forward(whole, model.zero_state(1));
    let mut state = model.zero_state(1);
    let mut largest = 0.0f32;
    for (t, id) in ids.into_iter().enumerate() {
        let (logits, next) = model.step(Tensor::from_data(TensorData::new(vec![id], [1]), &device), state);
        state = next;
        let difference = (logits - parallel.clone().narrow(1, t, 1).squeeze_dim(1)).abs().max();
        let difference = difference.into_data().iter::<f32>().next().unwrap_or(f32::NAN);
        // `max` would drop a NaN.
        if difference.is_nan() || difference > largest {
            largest = difference;
        }
        if largest.is_nan() {
            break;
        }
    }
    largest
}

/// Streams text to stdout and returns it.
fn write<B: RwkvBackend>(
    model: &Rwkv<B>,
    tokenizer: &AnyTokenizer,
    prompt: &str,
    tokens: usize,
    seed: u64,
) -> Result<String, Failure> {
    let sampler = Sampler::new(0.8, 0.95, 0, seed)?;
    let decode = |ids: &[u32]| tokenizer.decode(ids);
    let output = Output { decode: Some(&decode), max_tokens: Some(tokens), ..Output::default() };
    let prompt_tokens = tokenizer.encode(prompt)?;
    let mut text = prompt.to_owned();
    print!("  {prompt}");
    for step in Generator::with_output(model, model.zero_state(1), &prompt_tokens, sampler, output)? {
        let piece = step?.text;
        print!("{}", piece.replace('\n', "\n  "));
        std::io::stdout().flush()?;
        text += &piece;
    }
    Ok(text)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

/// A run directory that the other programs open; one of an earlier quickstart gives way.
fn save<B: RwkvAutodiffBackend>(
    args: &Args,
    config: &RunConfig,
    tokenizer: &AnyTokenizer,
    trainer: &Trainer<B>,
    rows: &[Metrics],
) -> Result<(), Failure> {
    for file in ["config.toml", "metrics.jsonl"] {
        let file = args.out.join(file);
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
    }
    let backend = Backend::or_default(args.backend).name();
    let run = RunDir::create(Path::new(&args.out), config, Some(tokenizer), &Provenance::of_this_process(backend))?;
    for row in rows {
        run.append(row)?;
    }
    plot_loss(rows, "quickstart", &args.out.join("loss.svg"))?;
    Ok(run.save(trainer)?)
}
