//! Loss by position and by length of the context.
//!
//! The program is `src/context_length/mod.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::context_length::main()
}
