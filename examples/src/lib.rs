//! What the programs share: the choice of a backend, errors, progress and the quickstart's corpus.
#![recursion_limit = "256"]

pub mod backend;
pub mod corpus;
pub mod progress;
pub mod report;

pub use backend::Backend;
pub use report::{Failure, run};
