//! Says how well a model predicts texts: bits per byte, per token and per word.

mod progress;

use crate::model::{ModelArgs, tokenizer};
use crate::{Backend, Failure, report, run, with_backend};
use clap::{Parser, ValueEnum};
use progress::Shown;
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::Tokenizer;
use rwkv_eval::data::read_rows;
use rwkv_eval::perplexity::{Context, Report, ReportSettings, TextScore, TextScorer, Total};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How well a model predicts texts: bits per byte, per token and per word.
///
/// Each file is a text, read from its beginning to its end with the state handed on, or in windows with --ctx-len. Of a .jsonl
/// file each line is an object with a text.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokenizer file [default: tokenizer.json beside the model].
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Texts in UTF-8, or JSON lines.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The text in an object of JSON lines.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// Predict each token from a window of this many tokens, instead of from all before it.
    #[arg(long, value_name = "TOKENS")]
    ctx_len: Option<usize>,
    /// Tokens from window to window: each token has at least ctx-len − stride before it [default: half of ctx-len].
    #[arg(long, value_name = "TOKENS", requires = "ctx_len")]
    stride: Option<usize>,
    /// What stands before each text, so that its first token is predicted, too.
    #[arg(long, default_value = "end-of-text")]
    start: Start,
    /// Tokens that are read at once; the result does not depend on it.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    chunk: usize,
    /// Write perplexity.json, .md and .html into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Accepted as in every program; nothing here is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the scores as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    /// The end-of-text token, where the tokenizer has one, as the reference harness does.
    EndOfText,
    /// Nothing: the first token is left out.
    None,
}

/// What the program reports: the report, and what follows from its sums.
#[derive(Serialize)]
struct Outcome<'a> {
    total: Derived<'a, Total>,
    documents: Vec<Derived<'a, TextScore>>,
    settings: &'a ReportSettings,
    provenance: &'a Provenance,
}

#[derive(Serialize)]
struct Derived<'a, T> {
    #[serde(flatten)]
    score: &'a T,
    loss: f64,
    perplexity: f64,
    bits_per_token: f64,
    bits_per_byte: f64,
    word_perplexity: f64,
}

impl<'a, T> Derived<'a, T> {
    fn new(score: &'a T, text: &TextScore) -> Self {
        Self {
            score,
            loss: text.loss(),
            perplexity: text.perplexity(),
            bits_per_token: text.bits_per_token(),
            bits_per_byte: text.bits_per_byte(),
            word_perplexity: text.word_perplexity(),
        }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| perplexity::<B>(&args, backend.name(), &device)))
}

fn perplexity<B: RwkvBackend>(args: &Args, backend: &str, device: &B::Device) -> Result<(), Failure> {
    // A wrong name is found before a model is loaded for minutes.
    for file in &args.files {
        std::fs::File::open(file).map_err(Error::io("read", file))?;
    }
    let context = args.ctx_len.map_or(Context::Carried, |length| Context::Windows {
        length,
        stride: args.stride.unwrap_or((length / 2).max(1)),
    });
    let (model, path) = args.model.load::<B>(device)?;
    let words = tokenizer(args.tokenizer.as_deref(), &path, &model)?;
    let start = words.end_of_text().filter(|_| args.start == Start::EndOfText);
    let scorer = TextScorer::new(&model, &words, context, start, args.chunk)?;
    let mut documents = Vec::new();
    for file in &args.files {
        score_file(&scorer, file, &args.field, &mut documents)?;
    }
    let total = Total::of(&documents).ok_or_else(|| Failure("the files hold no texts".to_owned()))?;
    let settings = ReportSettings {
        model: args.model.model.display().to_string(),
        fingerprint: model.fingerprint().to_string(),
        tokenizer: args.tokenizer.as_ref().map_or(words.name().to_owned(), |file| file.display().to_string()),
        dtype: args.model.dtype.name().to_owned(),
        context,
        start,
    };
    let report = Report { total, documents, settings, provenance: Provenance::of_this_process(backend) };
    let outcome = Outcome {
        total: Derived::new(&report.total, &report.total.score),
        documents: report.documents.iter().map(|text| Derived::new(text, text)).collect(),
        settings: &report.settings,
        provenance: &report.provenance,
    };
    let mut text = describe(&report);
    if let Some(folder) = &args.out {
        let written = report.document().write(folder, "perplexity", &outcome)?;
        let _ = write!(text, "\nthe report is in {}", written.html.display()); // a String takes everything
    }
    report::print(args.json, &outcome, text)
}

fn score_file<B: RwkvBackend>(
    scorer: &TextScorer<'_, B>,
    file: &Path,
    field: &str,
    scores: &mut Vec<TextScore>,
) -> Result<(), Failure> {
    let name = file.display().to_string();
    if file.extension().is_some_and(|extension| extension == "jsonl") {
        let rows = read_rows(file)?;
        let mut shown = Shown::new(&name, rows.len() as u64, "texts");
        for (done, row) in rows.iter().enumerate() {
            let text = row.text(field)?;
            scores.push(scorer.score(&format!("{name}:{}", row.line), text.as_bytes(), &mut |_| ())?);
            shown.at(done as u64 + 1);
        }
        return Ok(());
    }
    let input = std::fs::File::open(file).map_err(Error::io("read", file))?;
    let length = input.metadata().map_err(Error::io("read", file))?.len();
    let mut shown = Shown::new(&name, length, "bytes");
    scores.push(scorer.score(&name, input, &mut |bytes| shown.at(bytes as u64))?);
    Ok(())
}

fn describe(report: &Report) -> String {
    let line = |text: &TextScore| {
        format!(
            "{:.4} bits/byte  {:.4} nats/token  perplexity {:.4}  per word {:.4}  {} tokens  {}",
            text.bits_per_byte(),
            text.loss(),
            text.perplexity(),
            text.word_perplexity(),
            text.predicted_tokens,
            text.name
        )
    };
    let mut lines: Vec<String> = report.documents.iter().map(line).collect();
    if lines.len() > 1 {
        lines.push(line(&report.total.score));
    }
    lines.join("\n")
}
