//! Writes text with a trained model.
//!
//! The program is `src/generate.rs`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::generate::main()
}
