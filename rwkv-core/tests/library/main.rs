//! What is the same on every backend, tested on Flex. One test program, because each compiles the model anew.

#[path = "../backends/support/fixture.rs"]
mod fixture;

mod adding_a_mixer;
#[cfg(feature = "flex")]
mod chat;
#[cfg(feature = "flex")]
mod checkpoints;
#[cfg(feature = "flex")]
mod hooks;
#[cfg(feature = "flex")]
mod init;
#[cfg(feature = "flex")]
mod rescaling;
mod sampling;
#[cfg(feature = "flex")]
mod switches;
mod tokenizers;
