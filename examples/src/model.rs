//! `--model`, `--lora`, `--dtype` and the tokenizer beside the model: what every program that runs a model takes.
//!
//! A model is a path, or a name on a hub, which is downloaded with a bar on a terminal and lines elsewhere.

use crate::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use rwkv_core::checkpoint::{self, Checkpoint, Progress, TOKENIZER_FILE};
use rwkv_core::model::{Lora, Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Lines for every tenth of a file where there is no bar.
const LINES: u64 = 10;

/// Which model, and how its weights are held.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Checkpoint file, run directory, or hf:OWNER/NAME on the Hugging Face hub.
    #[arg(long)]
    pub model: PathBuf,
    /// Add trained LoRA adapters to the model's weights.
    #[arg(long, value_name = "FILE")]
    pub lora: Option<PathBuf>,
    /// Weights in f32, f16, bf16 or int8: fewer bits take less memory and time. `bf16-products`
    /// also rounds the activations of many tokens, as PyTorch does, which can be faster on processors with AMX or AVX512-BF16.
    #[arg(long, default_value = "f32")]
    pub dtype: Precision,
}

impl ModelArgs {
    /// The model, and where it is.
    ///
    /// # Errors
    /// When it cannot be found, read, or held in this precision, or the adapters are not its own.
    pub fn load<B: RwkvBackend>(&self, device: &B::Device) -> Result<(Rwkv<B>, PathBuf), Failure> {
        let path = resolve(&self.model)?;
        Ok((open(&path, self.lora.as_deref())?.model_in(self.dtype, device)?, path))
    }
}

/// The checkpoint in `path`, with these adapters merged into it.
///
/// # Errors
/// When a file cannot be read, or the adapters are those of another model.
pub fn open(path: &Path, lora: Option<&Path>) -> Result<Checkpoint, Failure> {
    let mut checkpoint = Checkpoint::open(path)?;
    if let Some(file) = lora {
        checkpoint.merge_lora(&Lora::load(file, &checkpoint.fingerprint())?)?;
    }
    Ok(checkpoint)
}

/// The tokenizer in `file`, or the one beside the model, if it fits the model.
///
/// # Errors
/// When it cannot be read or has more tokens than the model.
pub fn tokenizer<B: RwkvBackend>(file: Option<&Path>, model: &Path, rwkv: &Rwkv<B>) -> Result<AnyTokenizer, Failure> {
    let beside = || checkpoint::model_file(model).with_file_name(TOKENIZER_FILE);
    let file = file.map_or_else(beside, Path::to_path_buf);
    let tokenizer = AnyTokenizer::load(&file)?;
    tokenizer.check_fits(rwkv.config().vocab_size).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    Ok(tokenizer)
}

/// The path of the model that the user names, downloaded if it is not here yet.
///
/// # Errors
/// As [`checkpoint::resolve`].
pub fn resolve(model: &Path) -> Result<PathBuf, Failure> {
    let mut shown = Shown::default();
    let path = checkpoint::resolve_with(model, &mut |progress| shown.show(progress));
    shown.end_file();
    Ok(path?)
}

/// The file that is being shown.
#[derive(Default)]
struct Shown {
    file: String,
    bar: Option<ProgressBar>,
    tenths: u64,
}

impl Shown {
    fn show(&mut self, Progress { file, done, total }: Progress<'_>) {
        if self.file != file {
            self.end_file();
            file.clone_into(&mut self.file);
            self.tenths = 0;
            let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}, {eta}");
            self.bar = match (std::io::stderr().is_terminal(), style) {
                (true, Ok(style)) => Some(ProgressBar::new(total).with_style(style).with_message(file.to_owned())),
                _ => None,
            };
        }
        let tenths = done.saturating_mul(LINES).checked_div(total).unwrap_or(LINES);
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if tenths > self.tenths => {
                eprintln!("{file}: {} of {} MB", done / 1_000_000, total / 1_000_000);
                self.tenths = tenths;
            }
            None => {}
        }
    }

    fn end_file(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
