//! Talking with the published models: prompts, where a reply ends, and conversations that are values.
//!
//! [`Format`] writes the prompts that Raven and World models were trained on, [`Partner`] writes a reply, and a
//! [`Conversation`] carries the state from one message to the next; cloning one forks it.

mod conversation;
mod format;
mod partner;
mod stop;

pub use conversation::Conversation;
pub use format::{Format, clean, introduction, pile_question};
pub use partner::{Ending, Partner, Reply, Settings, newline_bias};
pub use stop::StopText;
