//! Checkpoints: every published kind comes in, ours go out, and what does not fit is refused by name.

mod conversions;
mod foreign;
#[cfg(feature = "hub")]
mod hub;
mod own;
mod support;
