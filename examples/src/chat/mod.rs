//! A conversation on the terminal, or with lines from a pipe.

mod command;
mod input;
mod session;

use crate::model::{self, ModelArgs};
use crate::sampling::SamplingArgs;
use crate::{Backend, Failure, run, with_backend};
use clap::{CommandFactory, FromArgMatches, Parser};
use command::Command;
use input::Input;
use rwkv_core::chat::{self, Format, Partner, Settings};
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvBackend;
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;

/// Talks with a model.
///
/// Each line is a message; the reply appears as it is written. /help lists commands. Lines may come from a pipe, too:
/// then stdout holds the replies, each with a newline after it, and what goes wrong first ends the program with exit
/// code 1.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokenizer file: of the Pile and Raven models, of World, or a run's [default: tokenizer.json beside the model].
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// raven, raven-instruct, world, world-question or world-instruct [default: by the size of the vocabulary].
    #[arg(long, value_name = "FORMAT")]
    prompt_format: Option<Format>,
    /// Text that the conversation begins with; empty for none [default: the format's].
    #[arg(long, value_name = "FILE", conflicts_with = "load_state")]
    introduction: Option<PathBuf>,
    /// Begin with the state in a file instead of an introduction.
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
    /// Tokens of a reply, at most.
    #[arg(long, default_value_t = Settings::default().max_tokens)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Leave out the official program's bias, which keeps short replies going and leads long ones to their end.
    #[arg(long)]
    no_newline_bias: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = Settings::default().seed)]
    seed: u64,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = arguments();
    run(|| with_backend!(Backend::or_default(args.backend), |B, device| talk::<B>(&args, device)))
}

/// The arguments, with the defaults of a conversation: a narrower nucleus than free text has.
fn arguments() -> Args {
    // As in the library's `Settings::default`.
    let defaults = [("top_p", "0.5"), ("alpha_presence", "0.4"), ("alpha_frequency", "0.4")];
    let command = defaults
        .into_iter()
        .fold(Args::command(), |command, (name, value)| command.mut_arg(name, |arg| arg.default_value(value)));
    let matches = command.get_matches();
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn talk<B: RwkvBackend>(args: &Args, device: B::Device) -> Result<(), Failure> {
    let (model, path) = args.model.load::<B>(&device)?;
    let tokenizer = model::tokenizer(args.tokenizer.as_deref(), &path, &model)?;
    let settings = Settings {
        sampler: args.sampling.config(),
        seed: args.seed,
        max_tokens: args.max_tokens,
        newline_bias: !args.no_newline_bias,
    };
    let partner = Partner::new(&model, &tokenizer, settings)?;
    let format = format(args, model.config().vocab_size)?;
    let introduction = match &args.introduction {
        Some(file) => chat::introduction(&std::fs::read_to_string(file).map_err(Error::io("read", file))?),
        None => format.introduction().to_owned(),
    };
    let mut session = Session::new(partner, format, introduction, args.load_state.as_deref())?;
    let mut input = Input::new(format)?;
    if input.is_terminal() {
        eprintln!("Prompt format {}. /help lists commands, /quit or Ctrl-D ends.", format.name());
        session.label_replies();
    }
    while let Some(line) = input.next()? {
        let done = Command::parse(&line).and_then(|command| session.run(command));
        match done {
            Ok(true) => {}
            Ok(false) => break,
            // A person reads the sentence and goes on; a script would go on without what it asked for.
            Err(Failure(sentence)) if input.is_terminal() => eprintln!("error: {sentence}"),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn format(args: &Args, vocab_size: usize) -> Result<Format, Failure> {
    args.prompt_format.or_else(|| Format::of_vocab_size(vocab_size)).ok_or_else(|| {
        let known = Format::ALL.map(Format::name).join(", ");
        Failure(format!("a vocabulary of {vocab_size} does not tell the prompt format: give --prompt-format ({known})"))
    })
}
