//! rwkv.cpp's format `ggmf`, with `f32` and `f16` numbers.
//!
//! ```text
//! u32 magic "ggmf", u32 version 100 or 101, u32 vocabulary, u32 width, u32 layers, u32 dtype
//! per tensor: u32 dimensions, u32 bytes of the name, u32 dtype, u32 sizes (innermost first), name, numbers
//! ```
//!
//! All numbers are little-endian and nothing is padded. Vectors are always `f32` and flat; `time_decay` is stored as
//! `−exp(time_decay)`, the log-decay that the recurrence uses.
//!
//! # Source
//! `docs/FILE_FORMAT.md` and `python/convert_pytorch_to_ggml.py` of rwkv.cpp.

use super::dtype::FileDtype;
use super::stored::{Data, Found};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use std::path::Path;

const MAGIC: u32 = 0x6767_6d66;
const VERSIONS: std::ops::RangeInclusive<u32> = 100..=101;
const HEADER_LEN: usize = 24;

/// What `dtype` numbers beyond 0 and 1 mean.
const QUANTISED: [&str; 9] = ["Q4_0", "Q4_1", "Q4_1_O", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1"];

/// Whether a file begins as rwkv.cpp's do.
pub(super) fn is_ggmf(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

/// Finds the file's tensors, and takes the decay back to its raw form.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Found>> {
    read_tensors(bytes).map_err(|problem| Error::format(path, problem))
}

fn read_tensors(bytes: &[u8]) -> std::result::Result<Vec<Found>, String> {
    let mut at = 0;
    let [_, version, vocab_size, n_embd, n_layer, file_dtype] = numbers::<6>(bytes, &mut at)?;
    if !VERSIONS.contains(&version) {
        return Err(format!("is an rwkv.cpp file of version {version}; this library reads versions 100 and 101"));
    }
    if dtype(file_dtype).is_none() {
        return Err(format!("is an rwkv.cpp file of quantised weights ({}); {WANTED}", dtype_name(file_dtype)));
    }
    let mut tensors = Vec::new();
    while at < bytes.len() {
        let [dimensions, name_len, tensor_dtype] = numbers::<3>(bytes, &mut at)?;
        if !(1..=3).contains(&dimensions) {
            return Err(format!("is damaged: a tensor of {dimensions} dimensions at byte {}", at - 12));
        }
        let mut shape = Vec::with_capacity(3);
        for _ in 0..dimensions {
            let [size] = numbers::<1>(bytes, &mut at)?;
            shape.insert(0, size as usize);
        }
        let name = take(bytes, &mut at, name_len as usize)?;
        let name =
            std::str::from_utf8(&bytes[name]).map_err(|_| "is damaged: a tensor's name is not text".to_owned())?;
        let Some(dtype) = dtype(tensor_dtype) else {
            return Err(format!(
                "has a quantised tensor {} ({}); {WANTED}",
                name.escape_debug(),
                dtype_name(tensor_dtype)
            ));
        };
        let length = shape.iter().try_fold(dtype.size(), |length, &size| length.checked_mul(size));
        let range = take(bytes, &mut at, length.unwrap_or(usize::MAX))?;
        let data = if name.ends_with(".time_decay") && dtype == FileDtype::F32 {
            Data::Owned(
                raw_decay(&bytes[range])
                    .map_err(|value| format!("has a {} with the decay {value}", name.escape_debug()))?,
            )
        } else if name.ends_with(".time_decay") {
            return Err(format!("has a {} of {}, where rwkv.cpp writes f32", name.escape_debug(), dtype.name()));
        } else {
            Data::InFile { file: 0, range }
        };
        if name == "emb.weight" && shape != [vocab_size as usize, n_embd as usize] {
            return Err(format!("is damaged: emb.weight is {shape:?}, the header says [{vocab_size}, {n_embd}]"));
        }
        tensors.push(Found { name: name.to_owned(), shape, dtype, data });
    }
    // The format has no end mark: a file that was cut between two blocks would pass for a smaller model.
    let layer = |tensor: &Found| tensor.name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
    let layers = tensors.iter().filter_map(layer).max().map_or(0, |last| last + 1);
    if layers != n_layer as usize {
        return Err(format!("is cut short or damaged: it has {layers} layers, the header says {n_layer}"));
    }
    Ok(tensors)
}

const WANTED: &str = "convert the original with --format rwkv-cpp and dtype f32 or f16, or read the original itself";

fn dtype(number: u32) -> Option<FileDtype> {
    match number {
        0 => Some(FileDtype::F32),
        1 => Some(FileDtype::F16),
        _ => None,
    }
}

fn dtype_name(number: u32) -> String {
    let index = (number as usize).checked_sub(2);
    index.and_then(|index| QUANTISED.get(index)).map_or_else(|| format!("type {number}"), |name| (*name).to_owned())
}

fn take(bytes: &[u8], at: &mut usize, length: usize) -> std::result::Result<std::ops::Range<usize>, String> {
    match at.checked_add(length) {
        Some(end) if end <= bytes.len() => Ok(std::mem::replace(at, end)..end),
        _ => Err(format!("is cut short or damaged: {length} bytes at byte {at} of {}", bytes.len())),
    }
}

fn numbers<const N: usize>(bytes: &[u8], at: &mut usize) -> std::result::Result<[u32; N], String> {
    let range = take(bytes, at, 4 * N)?;
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes[range].as_chunks::<4>().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    Ok(numbers)
}

/// `ln(−x)` of every stored decay. The error is a decay that is positive or not a number.
///
/// A decay of zero becomes `−∞`, whose exponential is zero again.
fn raw_decay(stored: &[u8]) -> std::result::Result<Vec<u8>, f32> {
    let mut raw = Vec::with_capacity(stored.len());
    for bytes in stored.as_chunks::<4>().0 {
        let decay = f32::from_le_bytes(*bytes);
        if decay > 0.0 || decay.is_nan() {
            return Err(decay);
        }
        raw.extend((f64::from(-decay).ln() as f32).to_le_bytes());
    }
    Ok(raw)
}

/// `−exp(raw)`, the inverse of what reading does, up to the rounding of both.
pub(super) fn stored_decay(raw: f32) -> f32 {
    -f64::from(raw).exp() as f32
}

/// The first part of a file of version 101.
pub(super) fn header(config: &RwkvConfig, matrices: FileDtype) -> std::result::Result<Vec<u8>, String> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    for number in [MAGIC, *VERSIONS.end()] {
        header.extend(number.to_le_bytes());
    }
    for size in [config.vocab_size, config.n_embd, config.n_layer] {
        header.extend(number(size)?.to_le_bytes());
    }
    header.extend(dtype_number(matrices)?.to_le_bytes());
    Ok(header)
}

/// What comes before a tensor's numbers.
pub(super) fn tensor_header(name: &str, shape: &[usize], dtype: FileDtype) -> std::result::Result<Vec<u8>, String> {
    let mut header = Vec::new();
    for size in [shape.len(), name.len()] {
        header.extend(number(size)?.to_le_bytes());
    }
    header.extend(dtype_number(dtype)?.to_le_bytes());
    for &size in shape.iter().rev() {
        header.extend(number(size)?.to_le_bytes());
    }
    header.extend(name.as_bytes());
    Ok(header)
}

fn number(size: usize) -> std::result::Result<u32, String> {
    u32::try_from(size).map_err(|_| format!("cannot hold a size of {size}: the format has 32 bits for it"))
}

fn dtype_number(dtype: FileDtype) -> std::result::Result<u32, String> {
    match dtype {
        FileDtype::F32 => Ok(0),
        FileDtype::F16 => Ok(1),
        FileDtype::Bf16 => Err("cannot hold bf16, which rwkv.cpp does not know; f32 and f16 are possible".to_owned()),
    }
}
