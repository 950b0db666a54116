//! Makes a token file of texts.

mod input;
mod journal;
mod shown;

use crate::{Failure, report, run};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use input::{File, Raw, Reader, STDIN};
use journal::{Done, Job, Journal};
use rayon::prelude::*;
use rwkv_core::tokenizer::{AnyTokenizer, ByteTokenizer, Tokenizer};
use rwkv_train::data::{MagicPrime, TokenFileWriter, TokenType};
use serde::Serialize;
use shown::Shown;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The token after every document.
const END_OF_DOCUMENT: u32 = 0;

/// Makes a token file (PREFIX.bin and PREFIX.idx) of texts, in the format that the official trainer reads.
///
/// A text file is one document, and so is a line of a JSONL file; each is followed by token 0. Documents stand in the
/// order of the inputs, however many threads there are.
#[derive(Parser)]
struct Args {
    /// Files, folders with all that is in them, or - for stdin.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// Tokenizer file (a World vocabulary, `20B_tokenizer.json`, a run's `tokenizer.json`), or byte.
    #[arg(long, value_name = "FILE|byte")]
    tokenizer: PathBuf,
    /// The token file, without .bin and .idx.
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
    /// How inputs are read; auto goes by the name: .jsonl and .ndjson are JSONL, all else is text.
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// The field of a JSONL line that holds its text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    field: String,
    /// Bytes of a token; auto takes u16 where the vocabulary fits in it.
    #[arg(long, value_enum, default_value = "auto")]
    dtype: Dtype,
    /// No token 0 after the documents.
    #[arg(long)]
    no_eod: bool,
    /// Every line of a text is a document, without its line end; empty ones are none.
    #[arg(long)]
    split_lines: bool,
    /// Threads; 0 takes one for every core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Text that is read and encoded at a time, for all threads together.
    #[arg(long, default_value_t = 8 << 20, value_name = "BYTES")]
    batch_bytes: usize,
    /// Seconds between the times at which everything is brought to the disk, from where --resume goes on; 0: every batch.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    save_seconds: f64,
    /// Go on with what an interrupted run with the same arguments left; without one begin anew.
    #[arg(long)]
    resume: bool,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// By the file's name.
    Auto,
    /// UTF-8 text.
    Text,
    /// A JSON object a line.
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Dtype {
    /// By the vocabulary.
    Auto,
    /// Vocabularies up to 65536 tokens.
    U16,
    /// Any; written as i32, which readers of the format know.
    U32,
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    out: PathBuf,
    tokenizer: &'static str,
    vocab_size: usize,
    dtype: Dtype,
    documents: u64,
    /// Documents without text, which are left out.
    empty: u64,
    tokens: u64,
    /// Of text.
    bytes: u64,
    bytes_per_token: f64,
    resumed: bool,
    seconds: f64,
    magic_primes: Vec<Prime>,
}

/// The magic prime of one length of context, if the text is long enough.
#[derive(Serialize)]
struct Prime {
    ctx_len: u64,
    magic_prime: Option<u64>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let conflict = |problem| Args::command().error(ErrorKind::ArgumentConflict, problem).exit();
    if args.resume && args.input.iter().any(|path| path == Path::new(STDIN)) {
        conflict("--resume cannot go on with what came from stdin: it is gone");
    }
    if args.split_lines && args.format == Format::Jsonl {
        conflict("--split-lines is for texts: every line of a JSONL file is a document anyway");
    }
    run(|| tokenize(&args))
}

fn tokenize(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    let tokenizer = match args.tokenizer.to_str() {
        Some("byte") => AnyTokenizer::from(ByteTokenizer {}),
        _ => AnyTokenizer::load(&args.tokenizer)?,
    };
    let token_type = token_type(args.dtype, tokenizer.vocab_size())?;
    let job = Job {
        tokenizer: File::tokenizer(&args.tokenizer)?,
        files: input::find(args)?,
        field: args.field.clone(),
        end_of_document: !args.no_eod,
        token_type,
    };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let (journal, writer, done) = Journal::open(&args.out, &job, args.resume)?;
    let resumed = done.written.tokens > 0;
    let done = write(args, &job, &tokenizer, &threads, (&journal, writer, done))?;
    let prime = |ctx_len| Prime {
        ctx_len,
        magic_prime: MagicPrime::new(done.written.tokens, ctx_len).ok().map(|order| order.prime),
    };
    let outcome = Outcome {
        out: args.out.clone(),
        tokenizer: tokenizer.name(),
        vocab_size: tokenizer.vocab_size(),
        dtype: if token_type == TokenType::U16 { Dtype::U16 } else { Dtype::U32 },
        documents: done.written.documents,
        empty: done.empty,
        tokens: done.written.tokens,
        bytes: done.bytes,
        bytes_per_token: done.bytes as f64 / done.written.tokens as f64,
        resumed,
        seconds: started.elapsed().as_secs_f64(),
        magic_primes: [1024, 2048, 4096].map(prime).into(),
    };
    report::print(args.json, &outcome, for_people(&outcome))
}

/// How tokens are held, as the user wants it or the vocabulary needs it.
fn token_type(dtype: Dtype, vocab_size: usize) -> Result<TokenType, Failure> {
    match (dtype, TokenType::for_vocab(vocab_size)) {
        (Dtype::Auto, fits) => Ok(fits),
        (Dtype::U16, TokenType::I32) => {
            Err(Failure(format!("--dtype u16 has no room for the vocabulary of {vocab_size} tokens; take u32")))
        }
        (Dtype::U16, _) => Ok(TokenType::U16),
        (Dtype::U32, _) => Ok(TokenType::I32),
    }
}

/// Writes all documents that are not yet written.
fn write(
    args: &Args,
    job: &Job,
    tokenizer: &AnyTokenizer,
    threads: &rayon::ThreadPool,
    (journal, mut writer, mut done): (&Journal, TokenFileWriter, Done),
) -> Result<Done, Failure> {
    let mut shown = Shown::new(job.files.iter().map(|file| file.len).sum(), done.read);
    let mut reader = Reader::new(&job.files, done.position);
    let (mut saved, mut last_save) = (done.written.tokens > 0, Instant::now());
    let mut work = || {
        loop {
            let batch = reader.batch(args.batch_bytes)?;
            if batch.is_empty() {
                return Ok(done);
            }
            let encode = |raw: &Raw| encode(raw, job, tokenizer);
            let encoded: Vec<_> = threads.install(|| batch.par_iter().map(encode).collect());
            for (raw, tokens) in batch.iter().zip(encoded) {
                let (tokens, bytes) = tokens?;
                if tokens.is_empty() {
                    done.empty += 1;
                } else {
                    writer.push(&tokens)?;
                }
                done.bytes += bytes as u64;
                done.read += raw.read;
            }
            (done.written, done.position) = (writer.written(), reader.position());
            if last_save.elapsed().as_secs_f64() >= args.save_seconds {
                writer.sync()?;
                journal.save(&done)?;
                (saved, last_save) = (true, Instant::now());
            }
            shown.at(done.read, done.written.tokens);
        }
    };
    let outcome = work();
    shown.finish();
    match outcome {
        Ok(done) if done.written.tokens == 0 => {
            writer.discard()?;
            journal.remove()?;
            Err(Failure("there is no text in the input".into()))
        }
        Ok(done) => {
            writer.finish()?;
            journal.remove()?;
            Ok(done)
        }
        Err(failure) if !saved => {
            writer.discard()?;
            journal.remove()?;
            Err(failure)
        }
        Err(Failure(sentence)) => Err(Failure(format!("{sentence}; --resume goes on from what is done"))),
    }
}

/// The tokens of a document, none for one without text, and the bytes of its text.
fn encode(raw: &Raw, job: &Job, tokenizer: &AnyTokenizer) -> Result<(Vec<u32>, usize), Failure> {
    let text = raw.text(&job.files, &job.field)?;
    let mut tokens = tokenizer.encode(&text).map_err(|error| raw.failure(&job.files, &error))?;
    if job.end_of_document && !tokens.is_empty() {
        tokens.push(END_OF_DOCUMENT);
    }
    Ok((tokens, text.len()))
}

fn for_people(outcome: &Outcome) -> String {
    let Outcome { out, documents, tokens, bytes, bytes_per_token, seconds, .. } = outcome;
    let mut text = format!(
        "{0}.bin and {0}.idx\ndocuments: {documents}, tokens: {tokens}, bytes of text: {bytes} ({bytes_per_token:.2} a \
         token), seconds: {seconds:.1}",
        out.display()
    );
    if outcome.empty > 0 {
        text += &format!("\nleft out, without text: {}", outcome.empty);
    }
    for Prime { ctx_len, magic_prime } in &outcome.magic_primes {
        let prime = magic_prime.map_or("none, too few tokens".to_owned(), |prime| prime.to_string());
        text += &format!("\nmagic prime of ctx_len {ctx_len}: {prime}");
    }
    text
}
