//! Rows of Parquet files, with structures and lists in them.

use super::Row;
use crate::error::{Error, Result};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as ParquetRow};
use rwkv_core::error::Error as CoreError;
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// The rows of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let file = std::fs::File::open(path).map_err(CoreError::io("read", path))?;
    // The library checks most of what a file says, and panics over some of the rest.
    let outcome = catch_unwind(AssertUnwindSafe(|| rows(path, file)));
    outcome.unwrap_or_else(|_| Err(CoreError::format(path, "is a damaged Parquet file").into()))
}

fn rows(path: &Path, file: std::fs::File) -> Result<Vec<Row>> {
    let reader = SerializedFileReader::new(file).map_err(|error| problem(path, &error))?;
    let iterator = reader.get_row_iter(None).map_err(|error| problem(path, &error))?;
    let file: Arc<Path> = path.into();
    let mut rows = Vec::new();
    for (number, row) in iterator.enumerate().map(|(i, row)| (i + 1, row)) {
        let row = row.map_err(|error| problem(path, &error))?;
        let columns = columns(&row).map_err(|problem| Error::document(path, number, problem))?;
        rows.push(Row { file: Arc::clone(&file), line: number, columns });
    }
    Ok(rows)
}

/// The columns of a row, or of a structure.
fn columns(row: &ParquetRow) -> std::result::Result<Map<String, Value>, String> {
    row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(name, field)?))).collect()
}

/// A field as JSON. Bytes are text: some writers do not say that their texts are.
fn value(column: &str, field: &Field) -> std::result::Result<Value, String> {
    Ok(match field {
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => return Err(format!("column {column} holds bytes that are no UTF-8 text")),
        },
        Field::Group(row) => Value::Object(columns(row)?),
        Field::ListInternal(list) => Value::Array(
            list.elements().iter().map(|element| value(column, element)).collect::<std::result::Result<_, String>>()?,
        ),
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| {
                let key = match value(column, key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                Ok((key, value(column, field)?))
            };
            Value::Object(map.entries().iter().map(entry).collect::<std::result::Result<_, String>>()?)
        }
        other => other.to_json_value(),
    })
}

fn problem(path: &Path, error: &ParquetError) -> Error {
    let text = error.to_string().replace('\n', " ");
    let problem = if text.to_lowercase().contains("zstd") {
        "is compressed with zstd, which needs a C compiler and so is left out here; write it again with snappy or gzip \
         (pandas: `to_parquet(…, compression=\"snappy\")`), or as JSON lines"
            .to_owned()
    } else {
        format!("is no Parquet file that can be read: {text}")
    };
    CoreError::format(path, problem).into()
}
