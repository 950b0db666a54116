//! What can go wrong while training.

use std::path::PathBuf;

/// The result of a training operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A failure of the core library.
    #[error(transparent)]
    Core(#[from] rwkv_core::error::Error),
    /// A text too short for even one window.
    #[error("{what} has {tokens} tokens; a window of ctx_len {ctx_len} needs at least {}", ctx_len + 1)]
    TooShort {
        /// Which text.
        what: &'static str,
        /// Its length.
        tokens: usize,
        /// The window's length.
        ctx_len: usize,
    },
    /// The loss or the gradient is no number any more.
    #[error(
        "the loss is {loss} at step {step} (learning rate {lr:.1e}, gradient norm {grad_norm}); a lower lr_init or more \
         warmup_steps usually helps"
    )]
    Diverged {
        /// The step, counted from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// The learning rate.
        lr: f64,
        /// The gradient's norm before clipping.
        grad_norm: f64,
    },
    /// A run directory without a complete checkpoint.
    #[error("{} holds no complete checkpoint to resume from", .0.display())]
    NothingToResume(PathBuf),
    /// A plot that could not be drawn.
    #[error("cannot draw {}: {problem}", path.display())]
    Plot {
        /// The image.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}
