//! Documents of the tasks, from files in their official column layout.

#[cfg(feature = "hub")]
pub mod hub;
mod json;
mod jsonl;
mod parquet;
mod read;
mod source;

pub use read::{read_rows, read_split, split_files};
pub use source::{Source, source};

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// A document: one row of a data file, and where it stands.
#[derive(Debug, Clone)]
pub struct Row {
    /// The file.
    pub file: Arc<Path>,
    /// The line in it, or the row where the format has no lines, from 1.
    pub line: usize,
    /// The columns by their official names.
    pub columns: Map<String, Value>,
}

impl Row {
    /// An error that names this row.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::document(&self.file, self.line, problem)
    }

    /// The column of this name.
    ///
    /// # Errors
    /// [`Error::Document`] when the row has none.
    pub fn column(&self, name: &str) -> Result<&Value> {
        self.columns.get(name).ok_or_else(|| {
            let there = self.columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            self.error(format!("there is no column {name}; the row has {there}"))
        })
    }

    /// A column of text.
    ///
    /// # Errors
    /// [`Error::Document`] when there is none, or it is no text.
    pub fn text(&self, name: &str) -> Result<&str> {
        let value = self.column(name)?;
        value.as_str().ok_or_else(|| self.error(format!("column {name} should be text and is {value}")))
    }
}

/// The columns of a value, or what is wrong with it.
fn object(value: Value) -> std::result::Result<Map<String, Value>, String> {
    match value {
        Value::Object(columns) => Ok(columns),
        other => Err(format!("a row should be an object and is {}", kind(&other))),
    }
}

/// What a value is, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
