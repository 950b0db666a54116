//! Evaluation. One test program, because each compiles the model anew.

mod support;

mod data;
#[cfg(feature = "flex")]
mod engine;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "flex")]
mod perplexity;
mod reports;
mod runner;
