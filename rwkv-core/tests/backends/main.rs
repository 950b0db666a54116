//! What every backend must get right. One test binary, because a GPU backend takes minutes to compile.
#![recursion_limit = "256"]

#[macro_use]
mod support;

mod adam;
mod decode;
mod embedding;
mod every_mixer;
mod fused_ops;
mod generation;
mod golden;
mod head_loss;
mod initial_states;
mod lora;
mod mixer_definitions;
mod mixers;
mod modes_agree;
mod precision;
mod products;
mod recurrent_mixers;
mod states;
mod tiny_attention;
mod training;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod wkv_cuts;
mod wkv_parity;
