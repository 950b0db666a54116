//! Adam with RWKV-4's learning-rate groups, and clipping by the global norm.

mod clip;
mod groups;

pub use clip::clip_global_norm;
pub use groups::{Group, GroupedAdam};
