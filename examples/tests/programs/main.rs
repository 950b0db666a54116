//! The programs, run as a person runs them.

mod support;

#[cfg(feature = "flex")]
mod ablate;
#[cfg(feature = "flex")]
mod chat;
mod compare;
#[cfg(feature = "flex")]
mod convert;
mod evaluate;
#[cfg(feature = "flex")]
mod every_program;
#[cfg(feature = "flex")]
mod generate;
#[cfg(all(feature = "flex", unix))]
mod interrupted;
#[cfg(feature = "flex")]
mod looking;
#[cfg(feature = "flex")]
mod perplexity;
#[cfg(feature = "flex")]
mod plot;
#[cfg(feature = "flex")]
mod questions;
#[cfg(feature = "flex")]
mod sources;
#[cfg(feature = "flex")]
mod tasks;
#[cfg(feature = "flex")]
mod tokenize;
#[cfg(feature = "flex")]
mod tuning;
#[cfg(feature = "flex")]
mod watching;
