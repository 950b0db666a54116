//! Lines from a person, with editing and history, or from a pipe.

use crate::Failure;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use rwkv_core::chat::Format;
use std::io::{IsTerminal, Lines, StdinLock};

pub(super) enum Input {
    Terminal { editor: Box<DefaultEditor>, prompt: String },
    Pipe(Lines<StdinLock<'static>>),
}

impl Input {
    pub(super) fn new(format: Format) -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self::Pipe(stdin.lines()));
        }
        let editor = Box::new(DefaultEditor::new()?);
        Ok(Self::Terminal { editor, prompt: format!("{}: ", format.names().0) })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Self::Pipe(lines) => {
                let line = lines.next().transpose();
                line.map_err(|error| Failure(format!("cannot read stdin: {error}")))
            }
            Self::Terminal { editor, prompt } => match editor.readline(prompt) {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())), // Ctrl-C drops the line
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}
