//! The programs, and what they share.
//!
//! Each program is a module with a `main`; `examples/NAME.rs` calls it. They live in one library because a GPU backend
//! takes minutes to compile, and this way it is compiled once for all of them.
#![recursion_limit = "256"]

pub mod ablate;
mod allocator;
pub mod backend;
pub mod chat;
pub mod compare;
pub mod context_length;
pub mod convert;
pub mod corpus;
pub mod dashboard;
pub mod evaluate;
pub mod generate;
pub mod inspect;
pub mod logits;
pub mod model;
pub mod perplexity;
pub mod plot;
pub mod progress;
pub mod quickstart;
pub mod report;
pub mod sampling;
pub mod scaling;
pub mod speed;
pub mod tokenize;
pub mod train;

pub use backend::Backend;
pub use report::{Failure, run};
