//! Measures how fast a model reads and writes.
//!
//! `cargo run --release --example speed -- --help`

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::speed::main()
}
