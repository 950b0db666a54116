//! Trains variants of a model from several seeds, ranks them and tests them against a baseline.
//!
//! The program is `src/ablate/mod.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::ablate::main()
}
