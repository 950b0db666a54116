//! Looks into a model: its decays, and which tokens a prediction used.
//!
//! `cargo run --release --example inspect -- --help`

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::inspect::main()
}
