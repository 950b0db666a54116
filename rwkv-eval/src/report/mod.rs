//! Results as JSON, Markdown and one HTML page.
//!
//! An experiment makes a [`Document`] of its result and calls [`Document::write`], which puts `NAME.json`, `NAME.md`,
//! `NAME.html` and the charts as `NAME-CHART.svg` into a folder.

mod document;
pub(crate) mod dots;
mod evaluation;
mod html;
mod markdown;
mod of_evaluation;
pub mod paper;
pub(crate) mod show;
mod table;

pub use document::{Document, Figure, Part, Section, Written};
pub use evaluation::{Evaluation, ModelInfo, Samples, Settings, Speed};
pub use of_evaluation::provenance_in_words;
pub use show::{count, date, is_share, metric_names};
pub use table::{Cell, Column, Number, Table};
