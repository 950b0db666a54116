//! Measures how fast a model reads a prompt and writes after it, and how time and memory grow with length.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the program, and the speed at one length |
//! | `curves.rs` | time and memory against length, beside a Transformer |

mod curves;

use crate::{Backend, Failure, model, report, run, with_backend};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use rwkv_core::checkpoint::Checkpoint;
use rwkv_core::config::{PILE_VOCAB, RwkvConfig};
use rwkv_core::generate::prefill;
use rwkv_core::model::{Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Speed of reading a prompt at once and of writing token by token.
///
/// Both are measured after a warm-up; decoding takes the most probable token each time, as a program that writes does.
/// With --curves time and memory are measured along the text instead, for the model and for a Transformer with as many
/// parameters, and written as speed.json, .md, .html and charts.
#[derive(Parser)]
struct Args {
    /// Checkpoint file, run directory, or hf:OWNER/NAME on the Hugging Face hub.
    #[arg(long, required_unless_present_any = ["preset", "size"])]
    model: Option<PathBuf>,
    /// A published size with random weights, in f32, instead of a model.
    #[arg(long, conflicts_with_all = ["model", "dtype"])]
    preset: Option<Preset>,
    /// Layers and width with random weights, in f32, instead of a model.
    #[arg(long, value_name = "LxC", conflicts_with_all = ["model", "preset", "dtype"])]
    size: Option<Size>,
    /// Tokens in the vocabulary of --size.
    #[arg(long, default_value_t = PILE_VOCAB, value_parser = positive)]
    vocab_size: usize,
    /// Measure time and memory against length, beside a Transformer of equal size, and report them into this folder.
    #[arg(long, value_name = "DIR")]
    curves: Option<PathBuf>,
    /// How often the curves are measured; medians count.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    repeats: usize,
    /// Measures the curves of one model only, for the process that compares them.
    #[arg(long, hide = true, requires = "curves")]
    curves_of: Option<Which>,
    /// Weights in f32, f16, bf16, bf16-products or int8.
    #[arg(long, default_value = "f32")]
    dtype: Precision,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512, value_parser = positive)]
    prompt_tokens: usize,
    /// Tokens to write.
    #[arg(long, default_value_t = 128, value_parser = positive)]
    tokens: usize,
    /// Seed of the prompt and of a preset's weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// The published sizes, with the Pile vocabulary.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    #[value(name = "rwkv4_169m")]
    Rwkv4_169m,
    #[value(name = "rwkv4_430m")]
    Rwkv4_430m,
    #[value(name = "rwkv4_1b5")]
    Rwkv4_1b5,
    #[value(name = "rwkv4_3b")]
    Rwkv4_3b,
    #[value(name = "rwkv4_7b")]
    Rwkv4_7b,
    #[value(name = "rwkv4_14b")]
    Rwkv4_14b,
}

impl Preset {
    fn config(self) -> RwkvConfig {
        let of_size = match self {
            Self::Rwkv4_169m => RwkvConfig::rwkv4_169m,
            Self::Rwkv4_430m => RwkvConfig::rwkv4_430m,
            Self::Rwkv4_1b5 => RwkvConfig::rwkv4_1b5,
            Self::Rwkv4_3b => RwkvConfig::rwkv4_3b,
            Self::Rwkv4_7b => RwkvConfig::rwkv4_7b,
            Self::Rwkv4_14b => RwkvConfig::rwkv4_14b,
        };
        of_size(PILE_VOCAB)
    }
}

/// Layers and width, as 12x768.
#[derive(Debug, Clone, Copy)]
struct Size(usize, usize);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.split_once('x').and_then(|(l, c)| Some(Self(l.parse().ok()?, c.parse().ok()?)));
        size.filter(|size| size.0 > 0 && size.1 > 0).ok_or_else(|| "expected layers and width, as 12x768".to_owned())
    }
}

/// Which model a process measures.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Itself,
    Transformer,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::Transformer => "transformer",
        }
    }
}

impl Args {
    /// The sizes of the model.
    fn sizes(&self) -> Result<RwkvConfig, Failure> {
        match (&self.model, self.preset, self.size) {
            (Some(path), ..) => Ok(Checkpoint::open(&model::resolve(path)?)?.config().clone()),
            (None, Some(preset), _) => Ok(preset.config()),
            (None, None, Some(Size(layers, width))) => Ok(RwkvConfig::new(self.vocab_size, layers, width)),
            (None, None, None) => Err(Failure("give --model, --preset or --size".to_owned())),
        }
    }
}

/// The model: read, or of random weights.
fn load<B: RwkvBackend>(args: &Args, device: &B::Device) -> Result<Rwkv<B>, Failure> {
    match &args.model {
        Some(path) => Ok(Checkpoint::open(&model::resolve(path)?)?.model_in(args.dtype, device)?),
        None => Ok(randomised(Rwkv::new(&args.sizes()?, args.seed, device))),
    }
}

/// The model with small random weights: the speed does not depend on them.
fn randomised<B: RwkvBackend>(model: Rwkv<B>) -> Rwkv<B> {
    model.map(&mut Randomise)
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    num_params: usize,
    dtype: &'static str,
    /// Time to get the model from the file into memory.
    load_seconds: f64,
    prefill_tokens_per_second: f64,
    /// `2·(VC + 13C²L)` operations a token, less the head for all but the last.
    prefill_gflop_per_second: f64,
    decode_tokens_per_second: f64,
    /// Bytes of the weights that a token reads.
    decode_bytes_per_token: usize,
    decode_gb_per_second: f64,
    /// Bytes of all weights, the embeddings among them.
    weight_bytes: usize,
    /// The largest that the process ever was in main memory; nothing where the system does not tell.
    peak_memory_bytes: Option<u64>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| match (&args.curves, args.curves_of) {
        (Some(out), None) => curves::compare(&args, backend, out),
        (_, Some(which)) => with_backend!(backend, |B, device| curves::measure_one::<B>(&args, which, &device)),
        (None, None) => with_backend!(backend, |B, device| speed::<B>(&args, device)),
    })
}

fn speed<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    let started = Instant::now();
    let model: Rwkv<B> = load(args, &device)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let config = model.config();
    let prompt = prompt(args.prompt_tokens, config.vocab_size, args.seed);

    // Kernels are compiled and chosen, and threads started, on the first use.
    let warm_up = &prompt[..prompt.len().min(8)];
    let (_, state) = prefill(&model, model.zero_state(1), warm_up)?;
    decode(&model, state, 2, &device);

    let started = Instant::now();
    let (logits, state) = prefill(&model, model.zero_state(1), &prompt)?;
    logits.into_data(); // waits for the device
    let prefill_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    decode(&model, state, args.tokens, &device);
    let decode_seconds = started.elapsed().as_secs_f64();

    let head = config.vocab_size * config.n_embd;
    let blocks = config.num_params() - 2 * head;
    let bytes = read_per_token(&config, args.dtype);
    let outcome = Outcome {
        num_params: config.num_params(),
        dtype: args.dtype.name(),
        load_seconds,
        prefill_tokens_per_second: args.prompt_tokens as f64 / prefill_seconds,
        prefill_gflop_per_second: 2e-9 * (blocks * args.prompt_tokens) as f64 / prefill_seconds,
        decode_tokens_per_second: args.tokens as f64 / decode_seconds,
        decode_bytes_per_token: bytes,
        decode_gb_per_second: 1e-9 * (bytes * args.tokens) as f64 / decode_seconds,
        weight_bytes: bytes + head * embedding_size(args.dtype),
        peak_memory_bytes: peak_memory(),
    };
    report::print(args.json, &outcome, table(&outcome))
}

/// Random ids, a pure function of the seed.
fn prompt(count: usize, vocab_size: usize, seed: u64) -> Vec<u32> {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..vocab_size as u32)).collect()
}

/// Writes tokens, each the most probable one after those before.
fn decode<B: RwkvBackend>(model: &Rwkv<B>, mut state: rwkv_core::state::State<B>, tokens: usize, device: &B::Device) {
    let mut token = 0;
    B::burst(|| {
        for _ in 0..tokens {
            let input = Tensor::<B, 1, Int>::from_data(TensorData::new(vec![token], [1]), device);
            let (logits, next) = model.step(input, state);
            state = next;
            let logits = logits.into_data();
            let logits = logits.iter::<f32>().enumerate();
            token = logits.fold((0, f32::NEG_INFINITY), |max, (i, x)| if x > max.1 { (i as i64, x) } else { max }).0;
        }
    });
}

/// Bytes of weights that one token reads: the blocks' and the head's matrices, and what little else there is.
fn read_per_token(config: &RwkvConfig, precision: Precision) -> usize {
    let RwkvConfig { vocab_size: v, n_layer: l, n_embd: c, dim_att: a, dim_ffn: f, .. } = *config;
    let numbers = v * c + l * (4 * a * c + 2 * c * f + c * c);
    match precision {
        Precision::F32 => 4 * numbers,
        Precision::F16 | Precision::Bf16 | Precision::Bf16Products => 2 * numbers,
        Precision::Int8 => numbers + 4 * (v + l * (3 * a + c + f + 2 * c)), // a scale a row
    }
}

/// Bytes of a number in the table of embeddings, which is never `int8`.
fn embedding_size(precision: Precision) -> usize {
    if precision == Precision::F32 { 4 } else { 2 }
}

/// The process's largest resident size so far, as Linux reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?)
}

struct Randomise;

impl<B: RwkvBackend> ModuleMapper<B> for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let weights = Tensor::random(param.lazy_shape(), Distribution::Normal(0.0, 0.02), &param.lazy_device());
        Param::initialized(param.id, weights)
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a positive number".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn table(outcome: &Outcome) -> String {
    let Outcome { num_params, dtype, load_seconds, .. } = outcome;
    let memory = outcome.peak_memory_bytes.map_or("unknown".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
    format!(
        "{num_params} parameters, {dtype}, loaded in {load_seconds:.2} s\n\
         prefill  {:>9.1} tokens/s  {:>8.1} GFLOP/s\n\
         decode   {:>9.1} tokens/s  {:>8.1} GB/s of weights\n\
         peak memory {memory}, of which the weights are {:.0} MB",
        outcome.prefill_tokens_per_second,
        outcome.prefill_gflop_per_second,
        outcome.decode_tokens_per_second,
        outcome.decode_gb_per_second,
        1e-6 * outcome.weight_bytes as f64,
    )
}
