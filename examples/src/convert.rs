//! Converts a checkpoint from one format to another, with adapters merged into it if there are some.

use crate::{Backend, Failure, model, report, run};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use rwkv_core::checkpoint::{Container, ExportOptions, FileDtype, Format};
use rwkv_core::config::RwkvConfig;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Writes a checkpoint in another format, or merged with LoRA adapters: PyTorch, safetensors and rwkv.cpp files in,
/// safetensors and rwkv.cpp out.
#[derive(Parser)]
struct Args {
    /// Checkpoint file, run directory, or hf:OWNER/NAME on the Hugging Face hub.
    #[arg(long)]
    model: PathBuf,
    /// Add trained LoRA adapters to the weights.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// The file to write; for hf the folder.
    #[arg(long)]
    out: PathBuf,
    /// The format to write.
    #[arg(long, default_value = "official")]
    format: FormatName,
    /// The number format to write [default: what the file has; f32 for what --lora changes].
    #[arg(long)]
    dtype: Option<DtypeName>,
    /// What config.json says of the longest text in training (hf only) [default: 1024].
    #[arg(long, value_name = "TOKENS")]
    context_length: Option<usize>,
    /// Accepted as in every program; nothing here is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Accepted as in every program; nothing here is computed.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// Safetensors under the official names, which the other programs read.
    Official,
    /// A folder for transformers (RwkvForCausalLM): model.safetensors and config.json.
    Hf,
    /// rwkv.cpp's format, f32 or f16.
    RwkvCpp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DtypeName {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Official => Self::Official,
            FormatName::Hf => Self::HuggingFace,
            FormatName::RwkvCpp => Self::RwkvCpp,
        }
    }
}

impl From<DtypeName> for FileDtype {
    fn from(name: DtypeName) -> Self {
        match name {
            DtypeName::F32 => Self::F32,
            DtypeName::F16 => Self::F16,
            DtypeName::Bf16 => Self::Bf16,
        }
    }
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    model: PathBuf,
    from: Container,
    out: PathBuf,
    format: Format,
    config: RwkvConfig,
    parameters: usize,
    bytes: u64,
    seconds: f64,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.context_length.is_some() && args.format != FormatName::Hf {
        let problem = "--context-length goes with --format hf: only its config.json has a place for it";
        Args::command().error(ErrorKind::ArgumentConflict, problem).exit();
    }
    run(|| convert(&args))
}

fn convert(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    if args.format != FormatName::Hf && args.out.is_dir() {
        return Err(Failure(format!("{} is a folder; name a file in it with --out", args.out.display())));
    }
    let checkpoint = model::open(&model::resolve(&args.model)?, args.lora.as_deref())?;
    let options = ExportOptions { dtype: args.dtype.map(Into::into), context_length: args.context_length };
    let out = checkpoint.export(&args.out, args.format.into(), &options)?;
    let outcome = Outcome {
        model: checkpoint.path().to_path_buf(),
        from: checkpoint.container(),
        bytes: std::fs::metadata(&out)?.len(),
        out,
        format: args.format.into(),
        config: checkpoint.config().clone(),
        parameters: checkpoint.config().num_params(),
        seconds: started.elapsed().as_secs_f64(),
    };
    let RwkvConfig { n_layer, n_embd, vocab_size, .. } = outcome.config;
    let line = format!(
        "{}: {n_layer} layers of width {n_embd}, {vocab_size} tokens, {} parameters in {} bytes",
        outcome.out.display(),
        outcome.parameters,
        outcome.bytes
    );
    report::print(args.json, &outcome, line)
}
