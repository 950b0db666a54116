//! PyTorch's `.pth`: a zip file with a pickle that describes the tensors, and one member per storage.

use super::dtype::FileDtype;
use super::pickle::{self, Entry, PickledTensor};
use super::stored::{Data, Found};
use super::{family, zip};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// The pickle's member, in a folder whose name is the writer's choice.
const PICKLE: &str = "/data.pkl";

/// Finds the file's tensors.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Found>> {
    let bad = |problem: String| Error::format(path, problem);
    let members = zip::members(bytes).map_err(bad)?;
    let mut pickles = members.iter().filter_map(|(name, range)| Some((name.strip_suffix(PICKLE)?, range)));
    let (folder, pickle) =
        pickles.next().ok_or_else(|| bad("is a zip file, but none of PyTorch's: it has no data.pkl".to_owned()))?;
    if pickles.next().is_some() {
        return Err(bad("has two members data.pkl".to_owned()));
    }
    let order = members.get(format!("{folder}/byteorder").as_str());
    if order.is_some_and(|order| &bytes[order.clone()] != b"little") {
        return Err(bad("was written on a big-endian machine".to_owned()));
    }
    let entries = pickle::entries(&bytes[pickle.clone()]).map_err(bad)?;
    for (name, entry) in &entries {
        if let Entry::Other(found) = entry {
            let refused = family::refusal_of_entry(path, name);
            return Err(refused
                .unwrap_or_else(|| bad(format!("has {found} as its entry {}, not a tensor", name.escape_debug()))));
        }
    }
    let tensors = entries.into_iter().filter_map(|(name, entry)| match entry {
        Entry::Tensor(tensor) => Some((name, tensor)),
        Entry::Other(_) => None,
    });
    tensors
        .map(|(name, tensor)| {
            let (dtype, range) = locate(&tensor, folder, &members)
                .map_err(|problem| bad(format!("has a tensor {} {problem}", name.escape_debug())))?;
            Ok(Found { name: name.to_owned(), shape: tensor.shape, dtype, data: Data::InFile { file: 0, range } })
        })
        .collect()
}

/// The tensor's bytes in the file. The error says what is wrong with the tensor.
fn locate(
    tensor: &PickledTensor<'_>,
    folder: &str,
    members: &HashMap<&str, Range<usize>>,
) -> std::result::Result<(FileDtype, Range<usize>), String> {
    let dtype = match tensor.class {
        "FloatStorage" => FileDtype::F32,
        "HalfStorage" => FileDtype::F16,
        "BFloat16Storage" => FileDtype::Bf16,
        other => {
            return Err(format!("in a torch.{other}; weights are in FloatStorage, HalfStorage or BFloat16Storage"));
        }
    };
    let PickledTensor { shape, strides, .. } = tensor;
    // Row by row: each stride is the number of elements behind that dimension. It does not matter for one row.
    let mut count = Some(1usize);
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size > 1 && count != Some(stride) {
            return Err(format!("of shape {shape:?} that is a transposed or strided view (strides {strides:?})"));
        }
        count = count.and_then(|count| count.checked_mul(size));
    }
    if shape.len() != strides.len() {
        return Err(format!("with {} sizes and {} strides", shape.len(), strides.len()));
    }
    let member = format!("{folder}/data/{}", tensor.key);
    let storage =
        members.get(member.as_str()).ok_or_else(|| format!("whose numbers ({}) are missing", member.escape_debug()))?;
    let start = tensor.offset.checked_mul(dtype.size());
    let length = count.and_then(|count| count.checked_mul(dtype.size()));
    let range = start.zip(length).and_then(|(start, length)| {
        let end = start.checked_add(length)?;
        (end <= storage.len()).then(|| storage.start + start..storage.start + end)
    });
    match range {
        Some(range) => Ok((dtype, range)),
        None => Err(format!("of shape {shape:?} that reaches beyond its storage of {} bytes", storage.len())),
    }
}
