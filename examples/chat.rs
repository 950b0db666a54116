//! Talks with a model.
//!
//! The program is `src/chat`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::chat::main()
}
