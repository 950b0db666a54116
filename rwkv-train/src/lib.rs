#![doc = include_str!("../README.md")]
#![recursion_limit = "256"]

pub mod backprop;
pub mod checkpoints;
pub mod config;
pub mod data;
pub mod dropout;
pub mod error;
pub mod eta;
pub mod events;
pub mod exact_match;
mod finite;
pub mod flops;
pub mod metrics;
pub mod optim;
pub mod parallel;
mod pending;
pub mod plot;
pub mod progress;
mod row;
pub mod run_dir;
pub mod schedule;
pub mod tensorboard;
pub mod timings;
pub mod trainee;
pub mod trainer;
pub mod transfer;
pub mod validate;
