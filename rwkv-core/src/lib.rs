#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod error;
pub mod files;
pub mod generate;
pub mod loss;
pub mod model;
pub mod ops;
mod stamp;
pub mod state;
pub mod tokenizer;
