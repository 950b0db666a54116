#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

#[cfg(feature = "chart")]
pub mod chart;
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
pub mod provenance;
mod stamp;
pub mod state;
pub mod tokenizer;
