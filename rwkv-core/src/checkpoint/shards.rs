//! A checkpoint in several files with an index, as `transformers` writes large ones.
//!
//! The index is JSON: `{"weight_map": {"NAME": "FILE", …}}`, files beside it.

use super::contents::Contents;
use super::format::{Container, Opened, at_file, read};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether a file can be an index: JSON that begins with an object.
pub(super) fn is_index(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// The files that an index names.
///
/// # Errors
/// [`Error::Format`] when it is no index, or names a file outside its own folder.
#[cfg(feature = "hub")]
pub(super) fn files(path: &Path, index: &[u8]) -> Result<BTreeSet<String>> {
    Ok(parse(path, index)?.into_values().collect())
}

fn parse(path: &Path, index: &[u8]) -> Result<BTreeMap<String, String>> {
    let Index { weight_map } = serde_json::from_slice(index)
        .map_err(|error| Error::format(path, format!("is JSON, but no index of a checkpoint's files: {error}")))?;
    if weight_map.is_empty() {
        return Err(Error::format(path, "is an index without tensors"));
    }
    for file in weight_map.values() {
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::format(path, format!("names the file {}, not one beside it", file.escape_debug())));
        }
    }
    Ok(weight_map)
}

/// Opens the files that an index names; each must have the tensors that the index says, and no other.
pub(super) fn open(path: PathBuf, index: &[u8]) -> Result<Opened> {
    let mut expected = parse(&path, index)?;
    let names: BTreeSet<String> = expected.values().cloned().collect();
    let mut opened = Opened { path, container: Container::Safetensors, files: Vec::new(), tensors: Vec::new() };
    for name in names {
        let file = opened.path.with_file_name(&name);
        let contents = Contents::map(&file)?;
        let (container, tensors) = read(&file, &contents)?;
        for tensor in &tensors {
            if expected.remove(&tensor.name).as_ref() != Some(&name) {
                let tensor = tensor.name.escape_debug();
                return Err(Error::format(file, format!("has a tensor {tensor} that its index does not place there")));
            }
        }
        opened.container = container;
        opened.tensors.extend(at_file(tensors, opened.files.len()));
        opened.files.push(contents);
    }
    match expected.first_key_value() {
        None => Ok(opened),
        Some((tensor, file)) => {
            let file = opened.path.with_file_name(file);
            Err(Error::format(file, format!("lacks the tensor {} that its index places there", tensor.escape_debug())))
        }
    }
}
