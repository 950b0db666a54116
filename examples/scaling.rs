//! Trains RWKV-4 and a Transformer at several sizes on the same tokens.
//!
//! The program is `src/scaling/mod.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::scaling::main()
}
