//! How a program ends: its result on stdout, or one sentence on stderr and exit code 1.

use serde::Serialize;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Why a program gives up: one sentence.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs a program.
pub fn run(program: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match program() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(sentence)) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a result: as one line of JSON, or for people.
///
/// # Errors
/// When the result has no JSON form, or as [`say`].
pub fn print(json: bool, result: &impl Serialize, for_people: impl Display) -> Result<(), Failure> {
    if json { say(serde_json::to_string(result)?) } else { say(for_people) }
}

/// Prints a line.
///
/// # Errors
/// When stdout is closed or full, where `println!` would panic.
pub fn say(line: impl Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
