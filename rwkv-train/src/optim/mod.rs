//! Adam with RWKV-4's groups of parameters, clipping by the global norm, and a moving average of the weights.

mod adam;
mod clip;
mod ema;
mod groups;

pub use adam::{Adam, AdamConfig, Update};
pub use clip::global_norm;
pub use ema::Ema;
pub use groups::Groups;
