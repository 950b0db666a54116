//! The header of a safetensors file: names and shapes, without the data.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Larger headers are refused, as the `safetensors` crate refuses them.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Names and shapes of the file's tensors; fails unless the file is as long as its header says.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Vec<usize>>> {
    let bad = |problem: String| Error::format(path, problem);
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(bad(format!("is no safetensors file: it has {length} bytes")));
    }
    file.read_exact(&mut prefix).map_err(Error::io("read", path))?;
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > length - 8 {
        return Err(bad(format!("is no safetensors file, or cut short: a header of {header_bytes} bytes in {length}")));
    }
    let mut json = vec![0; header_bytes as usize];
    file.read_exact(&mut json).map_err(Error::io("read", path))?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&json).map_err(|error| bad(format!("has an unreadable safetensors header: {error}")))?;
    entries.remove("__metadata__");
    let mut end = 0;
    let mut shapes = BTreeMap::new();
    for (name, entry) in entries {
        let tensor: Tensor = serde_json::from_value(entry)
            .map_err(|error| bad(format!("has an unreadable header entry for tensor {name}: {error}")))?;
        end = end.max(tensor.data_offsets.1);
        shapes.insert(name, tensor.shape);
    }
    let expected = end.saturating_add(8 + header_bytes);
    if expected != length {
        return Err(bad(format!("is cut short or damaged: its header describes {expected} bytes, it has {length}")));
    }
    Ok(shapes)
}
