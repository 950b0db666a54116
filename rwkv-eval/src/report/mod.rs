//! Results as JSON, Markdown and one HTML page.

mod evaluation;

pub use evaluation::{Evaluation, ModelInfo, Samples, Settings, Speed};
