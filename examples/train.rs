//! Trains an RWKV-4 on a text file.
//!
//! The program is `src/train.rs`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::train::main()
}
