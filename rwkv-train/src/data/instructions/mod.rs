//! Instructions and conversations to fine-tune with: read, put into the prompts of a chat, tokenised and packed.
//!
//! ```text
//! JSONL → Example → Piece (text, and whether the model is to learn it) → Tokens → rows of ctx_len + 1 tokens
//! ```
//!
//! The model reads what a chat reads and learns what it is to answer: the loss counts the tokens of the replies, with what
//! ends them, and no others. Several examples share a row; the model starts anew at the first token of each
//! ([`Sample::resets`](super::Sample::resets)).
//!
//! | file | holds |
//! |---|---|
//! | `read.rs` | [`Example`]: the two shapes of JSONL |
//! | `render.rs` | [`Template`]: the texts that a chat would send and receive |
//! | `tokens.rs` | [`Examples`]: all examples of a file as tokens with weights, and a held-out part of them |
//! | `pack.rs` | [`Instructions`]: rows of examples as [`Samples`](super::Samples) |

mod pack;
mod read;
mod render;
mod tokens;

pub use pack::Instructions;
pub use read::{Example, Turn, read};
pub use render::{Piece, Template};
pub use tokens::{Examples, Tokens};
