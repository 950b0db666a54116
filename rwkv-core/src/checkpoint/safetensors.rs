//! The safetensors format: a length, a JSON header with names, shapes and places, and the numbers.
//!
//! # Source
//! The format's description in the repository `huggingface/safetensors`.

use super::dtype::FileDtype;
use super::stored::{Data, Found};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Larger headers are refused, as the `safetensors` crate refuses them.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The one key of the header that is no tensor.
const METADATA: &str = "__metadata__";
/// The key of the metadata with the configuration of a model that is not plain RWKV-4.
const CONFIG: &str = "rwkv_config";

/// Whether a file begins as a safetensors file does.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && bytes.first_chunk::<8>().is_some_and(|x| u64::from_le_bytes(*x) <= MAX_HEADER_BYTES)
}

#[derive(Deserialize)]
struct Place {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header, in the file's order and with names that occur twice.
struct Header(Vec<(String, Place)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map from names to tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Finds the file's tensors; fails unless they fill the file without gaps.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Found>> {
    let bad = |problem: String| Error::format(path, problem);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(bad("is cut short: it has no safetensors header".to_owned()));
    };
    let header_bytes = u64::from_le_bytes(*length) as usize; // `is_safetensors` has looked at it
    let Some((header, data)) = rest.split_at_checked(header_bytes) else {
        return Err(bad(format!("is cut short: a header of {header_bytes} bytes in a file of {}", bytes.len())));
    };
    let Header(mut entries) = serde_json::from_slice(header)
        .map_err(|error| bad(format!("has an unreadable safetensors header: {error}")))?;
    entries.sort_by_key(|(_, place)| place.data_offsets);
    let mut end = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, Place { dtype, shape, data_offsets: (start, stop) }) in entries {
        let dtype = match dtype.as_str() {
            "F32" => FileDtype::F32,
            "F16" => FileDtype::F16,
            "BF16" => FileDtype::Bf16,
            other => {
                return Err(bad(format!(
                    "has a tensor {} of dtype {}; weights are F32, F16 or BF16",
                    name.escape_debug(),
                    other.escape_debug()
                )));
            }
        };
        let count = shape.iter().try_fold(dtype.size(), |count, &size| count.checked_mul(size));
        if start != end || count != stop.checked_sub(start) {
            return Err(bad(format!(
                "has a damaged header: tensor {}, {} {shape:?}, at bytes {start} to {stop}",
                name.escape_debug(),
                dtype.name()
            )));
        }
        end = stop;
        if end > data.len() {
            return Err(bad(format!(
                "is cut short: tensor {} ends at byte {end} of {}",
                name.escape_debug(),
                data.len()
            )));
        }
        let base = 8 + header_bytes;
        tensors.push(Found { name, shape, dtype, data: Data::InFile { file: 0, range: base + start..base + stop } });
    }
    if end != data.len() {
        return Err(bad(format!("is damaged: {} bytes follow the last tensor", data.len() - end)));
    }
    Ok(tensors)
}

/// The configuration that a file of this library holds beside its tensors, if the model is not plain RWKV-4.
pub(super) fn config(path: &Path, bytes: &[u8]) -> Result<Option<RwkvConfig>> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: BTreeMap<String, String>,
    }
    let header =
        bytes.split_first_chunk::<8>().and_then(|(length, rest)| rest.get(..u64::from_le_bytes(*length) as usize));
    let header = header.and_then(|header| serde_json::from_slice::<Header>(header).ok());
    let Some(config) = header.and_then(|mut header| header.metadata.remove(CONFIG)) else { return Ok(None) };
    serde_json::from_str(&config).map(Some).map_err(|error| {
        Error::format(path, format!("holds a model of a kind that this library does not know: {error}"))
    })
}

/// The first part of a file with these tensors, whose numbers follow in the same order.
pub(super) fn header<'a>(
    config: &RwkvConfig,
    tensors: impl Iterator<Item = (&'a str, FileDtype, &'a [usize])>,
) -> Vec<u8> {
    // transformers wants to be told which framework the file is for.
    let mut json = format!("{{\"{METADATA}\":{{\"format\":\"pt\"");
    if !config.mixers.are_rwkv4() {
        // The sizes of plain RWKV-4 follow from its tensors.
        let config = serde_json::to_string(config).expect("plain fields have a JSON form");
        let config = serde_json::to_string(&config).expect("text has a JSON form");
        let _ = write!(json, ",\"{CONFIG}\":{config}");
    }
    json.push('}');
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.size();
        let dtype = match dtype {
            FileDtype::F32 => "F32",
            FileDtype::F16 => "F16",
            FileDtype::Bf16 => "BF16",
        };
        // The names are official ones or their translations: nothing in them needs escaping.
        let _ =
            write!(json, ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}");
    }
    json.push('}');
    // So that numbers lie on multiples of eight bytes.
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    [(json.len() as u64).to_le_bytes().as_slice(), json.as_bytes()].concat()
}
