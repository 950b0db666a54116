//! Loss by position and by length of the context.

use crate::{Backend, Failure, model, report, run, with_backend};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::Tokenizer;
use rwkv_eval::context_length::{ContextLengths, OfModel, Options, measure};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Does a longer context lower the loss? Measures the loss of a text by position and by the length of the context.
///
/// Writes `context_length.json`, .md, .html and charts into --out. Models with the same tokenizer may be set side by side.
#[derive(Parser)]
struct Args {
    /// Checkpoint file, run directory, or hf:OWNER/NAME on the Hugging Face hub; may be given often.
    #[arg(long, required = true)]
    model: Vec<PathBuf>,
    /// What the models are called, in their order [default: their files' names].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    labels: Vec<String>,
    /// Vocabulary file [default: the one beside the model].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The text, UTF-8; one that the models were not trained on.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Only the last share of the text, as 0.1 for what `train` holds out.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    last: f64,
    /// Lengths of the context, rising.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "16,32,64,128,256,512,1024")]
    lengths: Vec<usize>,
    /// Targets at the end of each window that are predicted after every length.
    #[arg(long, default_value_t = 16)]
    targets: usize,
    /// Windows at most, spread over the text.
    #[arg(long, default_value_t = 200)]
    windows: usize,
    /// Folder for the report.
    #[arg(long, value_name = "DIR", default_value = "runs/context_length")]
    out: PathBuf,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Nothing here is random; taken for uniformity.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a share above 0 and at most 1".to_owned())
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| context_length::<B>(&args, backend, &device)))
}

fn context_length<B: RwkvBackend>(args: &Args, backend: Backend, device: &B::Device) -> Result<(), Failure> {
    if !args.labels.is_empty() && args.labels.len() != args.model.len() {
        let (names, models) = (args.labels.len(), args.model.len());
        return Err(Failure(format!("--labels names {names} models, but there are {models}")));
    }
    let text = std::fs::read_to_string(&args.text).map_err(Error::io("read", &args.text))?;
    let options = Options { lengths: args.lengths.clone(), targets: args.targets, windows: args.windows };
    let mut models = Vec::new();
    let mut settings = Vec::new();
    for (i, path) in args.model.iter().enumerate() {
        let path = model::resolve(path)?;
        let loaded = model::open(&path, None)?.model::<B>(device)?;
        let tokenizer = model::tokenizer(args.tokenizer.as_deref(), &path, &loaded)?;
        let tokens = tokenizer.encode(&text).map_err(|error| Failure(format!("{}: {error}", args.text.display())))?;
        // As `train` splits it, so that 0.1 is what it held out by default.
        let first = tokens.len() - (args.last * tokens.len() as f64).ceil() as usize;
        settings.push((
            format!("model {}", i + 1),
            format!("{}, weights {}", serde_json::to_string(&loaded.config())?, loaded.fingerprint()),
        ));
        let label = args.labels.get(i).cloned().unwrap_or_else(|| name(&path));
        let mut shown = Shown::new(&label);
        let measured = measure(&loaded, &label, &tokens[first..], &options, &mut |done, total| shown.at(done, total));
        models.push(measured.map_err(|error| Failure(format!("{}: {error}", args.text.display())))?);
    }
    let file_name = args.text.file_name().unwrap_or_default().to_string_lossy();
    settings.extend([
        ("text".to_owned(), format!("the last {} of {file_name}", args.last)),
        ("windows at most".to_owned(), args.windows.to_string()),
        ("targets of a window".to_owned(), args.targets.to_string()),
        ("precision".to_owned(), "f32".to_owned()),
    ]);
    let result = ContextLengths { models, settings, provenance: Provenance::of_this_process(backend.name()) };
    let document = result.document();
    let written = document.write(&args.out, "context_length", &result)?;
    let text = result.models.iter().map(table).collect::<String>() + &document.summary.join("\n");
    report::print(args.json, &result, text + &format!("\nthe report is {}", written.html.display()))
}

/// What a model is called without a label: its file, or its folder where the file's name is everyone's.
fn name(path: &Path) -> String {
    let own = if path.is_dir() { Some(path) } else { path.file_stem().map(Path::new) };
    own.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

fn table(model: &OfModel) -> String {
    let row = |at: &rwkv_eval::context_length::AtLength| {
        format!(
            "{:<16} {:>6} tokens  loss {:.4} ± {:.4}  change {:+.4} ± {:.4}\n",
            model.label, at.ctx_len, at.loss, at.stderr, at.change, at.change_stderr
        )
    };
    model.by_length.iter().map(row).collect()
}

/// A bar on a terminal, a line for every tenth elsewhere.
struct Shown {
    label: String,
    bar: Option<ProgressBar>,
    tenths: usize,
}

impl Shown {
    fn new(label: &str) -> Self {
        let style = ProgressStyle::with_template("{msg} {bar:32} {pos} of {len} tokens  [{elapsed} < {eta}]");
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => Some(ProgressBar::new(0).with_style(style).with_message(label.to_owned())),
            _ => None,
        };
        Self { label: label.to_owned(), bar, tenths: 0 }
    }

    fn at(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        } else if 10 * done / total.max(1) > self.tenths {
            self.tenths = 10 * done / total;
            eprintln!("{}: {done} of {total} tokens", self.label);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
