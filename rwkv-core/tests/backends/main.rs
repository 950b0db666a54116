//! What every backend must get right. One test binary, because a GPU backend takes minutes to compile.
#![recursion_limit = "256"]

#[macro_use]
mod support;

mod generation;
mod golden;
mod modes_agree;
mod states;
mod wkv_parity;
