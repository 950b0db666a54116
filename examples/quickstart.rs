//! Trains a small RWKV-4 on the CPU in about a minute, shows that its two modes agree, and lets it write.
//!
//! The program is `src/quickstart.rs`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::quickstart::main()
}
