//! An object on each line.

use super::{Row, object};
use crate::error::{Error, Result};
use rwkv_core::error::Error as CoreError;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// What some editors put before a text.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The rows of a file; blank lines are none.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let file: Arc<Path> = path.into();
    let text = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    let mut rows = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate().map(|(i, line)| (i + 1, line)) {
        let failed = |problem: String| Error::document(path, number, problem);
        let line = std::str::from_utf8(line)
            .map_err(|error| failed(format!("byte {} is not UTF-8", error.valid_up_to() + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(line).map_err(|error| failed(problem(&error)))?;
        rows.push(Row { file: Arc::clone(&file), line: number, columns: object(value).map_err(failed)? });
    }
    Ok(rows)
}

/// The error without its line, which counts from this line.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("column {}: {what}", error.column())
}
