#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

pub mod compare;
pub mod data;
pub mod error;
pub mod perplexity;
pub mod report;
