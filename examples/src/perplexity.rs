//! Says how well a model predicts texts.

use std::process::ExitCode;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
