#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

pub mod compare;
pub mod data;
pub mod encode;
pub mod error;
pub mod journal;
pub mod lm;
pub mod metrics;
pub mod model;
pub mod perplexity;
pub mod report;
pub mod request;
pub mod runner;
pub mod task;
