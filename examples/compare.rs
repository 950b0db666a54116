//! Sets evaluations side by side, and beside the paper.
//!
//! The program is `src/compare.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::compare::main()
}
