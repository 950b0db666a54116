//! Makes a token file of texts.
//!
//! The program is `src/tokenize/`: in the library, so that each backend is compiled once for all programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::tokenize::main()
}
