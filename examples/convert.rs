//! Converts a checkpoint from one format to another.
//!
//! The program is `src/convert.rs`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::convert::main()
}
