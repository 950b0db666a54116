#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

pub mod config;
pub mod data;
pub mod error;
pub mod metrics;
pub mod optim;
pub mod plot;
pub mod run_dir;
pub mod schedule;
pub mod timings;
pub mod trainer;
pub mod validate;
