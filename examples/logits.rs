//! Prints a model's logits for a list of token ids.
//!
//! The program is `src/logits.rs`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::logits::main()
}
