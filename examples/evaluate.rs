//! Scores a model on tasks.
//!
//! The program is `src/evaluate/`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::evaluate::main()
}
