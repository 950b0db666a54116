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
    /// A failure of several workers together.
    #[error(transparent)]
    Parallel(#[from] crate::parallel::Error),
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
    /// A number in a token file that does not fit the file.
    #[error("{}, byte {offset}: {what}: expected {expected}, found {found}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What stands there.
        what: &'static str,
        /// What would do.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A token id that the vocabulary, or the number format of a file, does not reach.
    #[error("{place}: token {token} at offset {offset} is outside the vocabulary of {vocab_size} tokens")]
    TokenOutside {
        /// The file or text.
        place: String,
        /// The id; negative in a damaged file only.
        token: i64,
        /// Its place, in tokens from the beginning of the file or text.
        offset: u64,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// Too few windows for the magic-prime order.
    #[error(
        "{tokens} tokens have {slots} places of ctx_len {ctx_len}, and the magic-prime order reaches {} of them, less than \
         99%; take another order for so little text",
        prime.map_or_else(|| "none".to_owned(), |prime| prime.to_string())
    )]
    NoMagicPrime {
        /// Tokens of the stream.
        tokens: u64,
        /// The window's length.
        ctx_len: u64,
        /// Windows without overlap.
        slots: u64,
        /// The largest prime ≡ 2 (mod 3) that is at most `slots`.
        prime: Option<u64>,
    },
    /// The loss or the gradient is no number any more.
    #[error(
        "the loss is {loss} at step {step} (learning rate {lr:.1e}, gradient norm {grad_norm}){}; {culprit}; a lower lr_init \
         or more warmup_steps usually helps",
        if *skipped > 0 { format!(" after {skipped} steps in a row that were left out") } else { String::new() }
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
        /// The first tensor with numbers that are none.
        culprit: String,
        /// Steps in a row that were left out before, as far as they may be.
        skipped: usize,
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
