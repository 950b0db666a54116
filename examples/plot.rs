//! Overlays the curves of several runs in one picture.
//!
//! The program is `src/plot.rs`: in the library, like the others.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwkv_examples::plot::main()
}
