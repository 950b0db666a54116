//! Says how well a model predicts texts.
//!
//! The program is `src/perplexity.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::perplexity::main()
}
