//! Trains an RWKV-4 on a text file.

use crate::progress::Progress;
use crate::{Backend, Failure, report, run, with_backend};
use burn::backend::Autodiff;
use clap::Parser;
use rwkv_core::error::Error;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::tokenizer::{AnyTokenizer, ByteTokenizer, CharTokenizer, Tokenizer};
use rwkv_train::config::{RunConfig, TokenizerKind};
use rwkv_train::data::Dataset;
use rwkv_train::error::Result as TrainResult;
use rwkv_train::metrics::Metrics;
use rwkv_train::plot::plot_loss;
use rwkv_train::run_dir::{Provenance, RunDir};
use rwkv_train::schedule::Decay;
use rwkv_train::timings::Timings;
use rwkv_train::trainer::{Observer, Trainer};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Trains an RWKV-4 on a text file and writes a run directory.
///
/// A run is described by a TOML file, by flags, or by both: flags win. The defaults are a small character model.
#[derive(Parser)]
struct Args {
    /// TOML file that describes the run; unknown keys are errors.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: Recipe,
    /// Folder for the checkpoints, metrics and the plot.
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,
    /// Go on with the run in this folder, from its newest checkpoint and with its configuration.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "Recipe", "out"])]
    resume: Option<PathBuf>,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Wait for the device after every phase of a step, so that the reported times tell them apart on a GPU.
    #[arg(long)]
    exact_timings: bool,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// Flags that override the configuration's fields of the same name.
#[derive(clap::Args)]
struct Recipe {
    /// Training text, UTF-8.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Held-out text; without one the end of the training text is held out.
    #[arg(long, value_name = "FILE")]
    val_text: Option<PathBuf>,
    /// Share of the text that is held out [default: 0.1].
    #[arg(long)]
    val_fraction: Option<f64>,
    /// char or byte [default: char].
    #[arg(long)]
    tokenizer: Option<TokenizerKind>,
    /// Blocks [default: 4].
    #[arg(long)]
    n_layer: Option<usize>,
    /// Width [default: 128].
    #[arg(long)]
    n_embd: Option<usize>,
    /// Channels of the time-mix [default: the width].
    #[arg(long)]
    dim_att: Option<usize>,
    /// Hidden units of the channel-mix [default: four times the width].
    #[arg(long)]
    dim_ffn: Option<usize>,
    /// Half-width of the embedding's initial distribution [default: the initial learning rate].
    #[arg(long)]
    emb_init_scale: Option<f64>,
    /// Seed of weights and windows [default: 0].
    #[arg(long)]
    seed: Option<u64>,
    /// Optimizer steps [default: 2000].
    #[arg(long)]
    steps: Option<usize>,
    /// Windows per micro-batch [default: 12].
    #[arg(long)]
    batch_size: Option<usize>,
    /// Micro-batches per step [default: 1].
    #[arg(long)]
    accumulate: Option<usize>,
    /// Tokens per window [default: 64].
    #[arg(long)]
    ctx_len: Option<usize>,
    /// Learning rate after the warm-up [default: 1e-3].
    #[arg(long)]
    lr_init: Option<f64>,
    /// Learning rate at the end [default: 1e-4].
    #[arg(long)]
    lr_final: Option<f64>,
    /// Steps of warm-up [default: 50].
    #[arg(long)]
    warmup_steps: Option<usize>,
    /// exponential, cosine or linear [default: cosine].
    #[arg(long)]
    lr_schedule: Option<Decay>,
    /// Adam's first coefficient [default: 0.9].
    #[arg(long)]
    beta_1: Option<f64>,
    /// Adam's second coefficient [default: 0.99].
    #[arg(long)]
    beta_2: Option<f64>,
    /// Adam's epsilon [default: 1e-8].
    #[arg(long)]
    epsilon: Option<f64>,
    /// Largest norm of the gradient [default: 1].
    #[arg(long)]
    grad_clip: Option<f64>,
    /// Steps between rows of metrics [default: 10].
    #[arg(long)]
    log_every: Option<usize>,
    /// Steps between validations; 0: at the end only [default: 250].
    #[arg(long)]
    val_every: Option<usize>,
    /// Held-out windows per validation, at most [default: 1000].
    #[arg(long)]
    val_windows: Option<usize>,
    /// Steps between checkpoints; 0: at the end only [default: 1000].
    #[arg(long)]
    save_every: Option<usize>,
}

impl Recipe {
    fn apply(&self, config: &mut RunConfig) {
        macro_rules! apply {
            ($section:ident: $($field:ident),*) => {
                $(if let Some(value) = &self.$field { config.$section.$field = value.clone().into(); })*
            };
        }
        apply!(model: n_layer, n_embd, dim_att, dim_ffn, emb_init_scale);
        apply!(data: text, val_text, val_fraction, tokenizer);
        apply!(train: seed, steps, batch_size, accumulate, ctx_len, lr_init, lr_final, warmup_steps, lr_schedule);
        apply!(train: beta_1, beta_2, epsilon, grad_clip, log_every, val_every, val_windows, save_every);
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| train::<Autodiff<B>>(&args, backend, device)))
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    out: PathBuf,
    steps: usize,
    loss: Option<f64>,
    val_loss: Option<f64>,
    seconds: f64,
    tokens_per_second: Option<f64>,
    num_params: usize,
    timings: Timings,
}

fn train<B: RwkvAutodiffBackend>(args: &Args, backend: Backend, device: B::Device) -> Result<(), Failure> {
    let started = Instant::now();
    let (run_dir, mut trainer) = match &args.resume {
        Some(folder) => resume::<B>(folder, device)?,
        None => start::<B>(args, backend, device)?,
    };
    if args.exact_timings {
        trainer = trainer.with_exact_timings();
    }
    let steps = trainer.config().train.steps;
    let first = trainer.step();
    let mut log = Log { progress: Progress::new(steps, first), run_dir };
    trainer.run(&mut log)?;
    log.progress.finish();

    let rows = log.run_dir.metrics()?;
    if !rows.is_empty() {
        plot_loss(&rows, &title(trainer.config()), &log.run_dir.path().join("loss.svg"))?;
    }
    let timings = *trainer.timings();
    let trained = (steps - first) * tokens_per_step(trainer.config());
    let training_s = timings.data_s + timings.forward_s + timings.backward_s + timings.optimizer_s;
    let outcome = Outcome {
        out: log.run_dir.path().to_owned(),
        steps: trainer.step(),
        loss: rows.last().map(|row| row.loss),
        val_loss: rows.iter().rev().find_map(|row| row.val_loss),
        seconds: started.elapsed().as_secs_f64(),
        tokens_per_second: (trained > 0).then(|| trained as f64 / training_s),
        num_params: trainer.model().num_params_lazy(),
        timings,
    };
    report::print(args.json, &outcome, describe(&outcome))
}

fn describe(outcome: &Outcome) -> String {
    let number = |x: Option<f64>, digits: usize| x.map_or("unknown".to_owned(), |x| format!("{x:.digits$}"));
    let Timings { data_s, forward_s, backward_s, optimizer_s, validation_s, checkpoint_s, .. } = outcome.timings;
    format!(
        "step {}: loss {}, validation loss {} nats per token\n\
         {:.1} s in all, training at {} tokens/s: data {data_s:.1} s, forward {forward_s:.1} s, backward \
         {backward_s:.1} s, optimizer {optimizer_s:.1} s; validation {validation_s:.1} s, checkpoints {checkpoint_s:.1} s\n\
         the run is in {}",
        outcome.steps,
        number(outcome.loss, 4),
        number(outcome.val_loss, 4),
        outcome.seconds,
        number(outcome.tokens_per_second, 0),
        outcome.out.display()
    )
}

fn title(config: &RunConfig) -> String {
    let text = config.data.text.file_name().unwrap_or_default().to_string_lossy();
    format!("{} layers, width {}, {text}", config.model.n_layer, config.model.n_embd)
}

fn tokens_per_step(config: &RunConfig) -> usize {
    config.train.batch_size * config.train.accumulate * config.train.ctx_len
}

fn start<B: RwkvAutodiffBackend>(
    args: &Args,
    backend: Backend,
    device: B::Device,
) -> Result<(RunDir, Trainer<B>), Failure> {
    let mut config = match &args.config {
        Some(file) => RunConfig::load(file)?,
        None => RunConfig::default(),
    };
    args.recipe.apply(&mut config);
    if config.data.text.as_os_str().is_empty() {
        return Err(Failure("no training text: give --text FILE, or text = \"FILE\" under [data] in --config".into()));
    }
    config.validate()?;
    let text = read(&config.data.text)?;
    let tokenizer = match config.data.tokenizer {
        TokenizerKind::Char => AnyTokenizer::from(CharTokenizer::from_text(&text)),
        TokenizerKind::Byte => AnyTokenizer::from(ByteTokenizer {}),
    };
    let dataset = dataset(&config, &text, &tokenizer)?;
    let model = Rwkv::<B>::new(&config.model_config(tokenizer.vocab_size()), config.train.seed, &device);
    let run_dir = RunDir::create(&args.out, &config, &tokenizer, &Provenance::of_this_process(backend.name()))?;
    Ok((run_dir, Trainer::new(config, dataset, model, device)?))
}

fn resume<B: RwkvAutodiffBackend>(folder: &Path, device: B::Device) -> Result<(RunDir, Trainer<B>), Failure> {
    let (run_dir, config, tokenizer, step) = RunDir::open(folder)?;
    let text = read(&config.data.text)?;
    let dataset = dataset(&config, &text, &tokenizer)?;
    let trainer = run_dir.restore(step, config, dataset, device)?;
    Ok((run_dir, trainer))
}

fn dataset(config: &RunConfig, text: &str, tokenizer: &AnyTokenizer) -> Result<Dataset, Failure> {
    let ctx_len = config.train.ctx_len;
    let tokens = encode(tokenizer, text, &config.data.text)?;
    Ok(match &config.data.val_text {
        None => Dataset::split(&tokens, config.data.val_fraction, ctx_len, config.train.seed)?,
        Some(file) => Dataset::from_parts(tokens, encode(tokenizer, &read(file)?, file)?, ctx_len, config.train.seed)?,
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(file).map_err(Error::io("read", file))?)
}

fn encode(tokenizer: &AnyTokenizer, text: &str, file: &Path) -> Result<Vec<u32>, Failure> {
    tokenizer.encode(text).map_err(|error| Failure(format!("{}: {error}", file.display())))
}

/// Shows progress, and writes metrics and checkpoints.
struct Log {
    progress: Progress,
    run_dir: RunDir,
}

impl<B: RwkvAutodiffBackend> Observer<B> for Log {
    fn after_step(&mut self, step: usize) {
        self.progress.at(step);
    }

    fn on_metrics(&mut self, metrics: &Metrics) -> TrainResult<()> {
        self.progress.show(metrics);
        self.run_dir.append(metrics)
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> TrainResult<()> {
        self.run_dir.save(trainer)
    }
}
