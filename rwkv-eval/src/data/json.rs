//! All rows in one JSON value.

use super::{Row, jsonl::BOM, kind, object};
use crate::error::{Error, Result};
use rwkv_core::error::Error as CoreError;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// The rows of a file, in the shapes that [`read_split`](super::read_split) names.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let bad = |problem: String| Error::from(CoreError::format(path, problem));
    let value: Value = serde_json::from_slice(bytes.strip_prefix(BOM).unwrap_or(&bytes))
        .map_err(|error| bad(format!("is no JSON: {error}")))?;
    let file: Arc<Path> = path.into();
    let rows = match value {
        Value::Array(rows) => rows,
        Value::Object(object) => of_object(object).map_err(bad)?,
        other => return Err(bad(format!("should hold an array of rows and holds {}", kind(&other)))),
    };
    let row = |(number, value): (usize, Value)| {
        let columns = object(value).map_err(|problem| Error::document(path, number + 1, problem))?;
        Ok(Row { file: Arc::clone(&file), line: number + 1, columns })
    };
    rows.into_iter().enumerate().map(row).collect()
}

fn of_object(mut object: Map<String, Value>) -> std::result::Result<Vec<Value>, String> {
    // `data` and `rows` may also be columns: then they hold no objects.
    let holds_rows = |value: &Value| value.as_array().is_some_and(|rows| rows.iter().all(Value::is_object));
    for name in ["data", "rows"] {
        if object.get(name).is_some_and(holds_rows)
            && let Some(Value::Array(rows)) = object.remove(name)
        {
            return match name {
                "rows" => of_viewer(rows, object.get("num_rows_total")),
                _ => Ok(rows),
            };
        }
    }
    of_columns(object)
}

/// What the hub's viewer returns: a row's number, and which of its cells were cut short, beside the row. It gives a page of
/// a split at a time.
fn of_viewer(rows: Vec<Value>, total: Option<&Value>) -> std::result::Result<Vec<Value>, String> {
    let there = rows.len();
    if let Some(total) = total.and_then(Value::as_u64).filter(|total| *total > there as u64) {
        return Err(format!("holds {there} of {total} rows: a page of the hub's viewer; take all of them"));
    }
    let inner = |(place, mut row): (usize, Value)| {
        let Some(inner) = row.get_mut("row").map(Value::take) else { return Ok(row) };
        match row.get("truncated_cells").and_then(Value::as_array) {
            Some(cut) if !cut.is_empty() => {
                let columns: Vec<&str> = cut.iter().filter_map(Value::as_str).collect();
                let (row, columns) = (place + 1, columns.join(", "));
                Err(format!("has cells that the hub's viewer cut short, in row {row}: {columns}; take the data itself"))
            }
            _ => Ok(inner),
        }
    };
    rows.into_iter().enumerate().map(inner).collect()
}

fn of_columns(columns: Map<String, Value>) -> std::result::Result<Vec<Value>, String> {
    let mut rows: Option<Vec<Map<String, Value>>> = None;
    for (name, column) in columns {
        let Value::Array(cells) = column else {
            return Err(format!("should hold rows or columns, but {name:?} is {}", kind(&column)));
        };
        let rows = rows.get_or_insert_with(|| vec![Map::new(); cells.len()]);
        if rows.len() != cells.len() {
            return Err(format!("has {} rows in one column and {} in {name:?}", rows.len(), cells.len()));
        }
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.insert(name.clone(), cell);
        }
    }
    Ok(rows.unwrap_or_default().into_iter().map(Value::Object).collect())
}
