//! The directory of a zip file whose members are stored as they are, which is what `torch.save` writes.
//!
//! # Source
//! PKWARE's APPNOTE 6.3.10, §4.3 and §4.5.3.

use std::collections::HashMap;
use std::ops::Range;

const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
const CENTRAL_HEADER: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const END_64_LOCATOR: [u8; 4] = *b"PK\x06\x07";

const END_LEN: usize = 22;
const END_64_LEN: usize = 56;
const LOCATOR_LEN: usize = 20;
const CENTRAL_LEN: usize = 46;
const LOCAL_LEN: usize = 30;
/// Tag of the extra field with the sizes that do not fit 32 bits.
const ZIP_64: u16 = 1;

/// Whether a file begins as a zip file does.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL_HEADER)
}

/// The members by name: where in the file their bytes are.
///
/// Nothing is sized by a number from the file: every member costs as much as its entry in the directory has bytes.
pub(super) fn members(bytes: &[u8]) -> Result<HashMap<&str, Range<usize>>, String> {
    let (directory, count) = directory(bytes)?;
    let mut members = HashMap::new();
    let mut rest = directory;
    while !rest.is_empty() {
        let entry = Entry::read(rest)?;
        rest = &rest[entry.len..];
        let range = entry.data(bytes)?;
        if members.insert(entry.name, range).is_some() {
            return Err(format!("has two members called {}", entry.name.escape_debug()));
        }
    }
    if members.len() as u64 != count {
        return Err(format!("is damaged: its directory lists {} members and claims {count}", members.len()));
    }
    Ok(members)
}

/// The central directory and the number of entries that it should have.
fn directory(bytes: &[u8]) -> Result<(&[u8], u64), String> {
    let cut_short = || "is cut short or damaged: the directory at the end of the zip file is missing".to_owned();
    // A comment of up to 2¹⁶ − 1 bytes may follow the record, and its length must fit.
    let earliest = bytes.len().saturating_sub(END_LEN + usize::from(u16::MAX));
    let end = (earliest..=bytes.len().checked_sub(END_LEN).ok_or_else(cut_short)?)
        .rev()
        .find(|&at| bytes[at..].starts_with(&END) && at + END_LEN + usize::from(u16_at(bytes, at + 20)) == bytes.len())
        .ok_or_else(cut_short)?;
    let mut count = u64::from(u16_at(bytes, end + 10));
    let mut size = u64::from(u32_at(bytes, end + 12));
    let mut start = u64::from(u32_at(bytes, end + 16));
    if let Some(locator) = end.checked_sub(LOCATOR_LEN)
        && bytes[locator..].starts_with(&END_64_LOCATOR)
    {
        let record = usize::try_from(u64_at(bytes, locator + 8)).ok().and_then(|at| bytes.get(at..)?.get(..END_64_LEN));
        let record = record.filter(|record| record.starts_with(&END_64)).ok_or_else(cut_short)?;
        (count, size, start) = (u64_at(record, 32), u64_at(record, 40), u64_at(record, 48));
    }
    Ok((slice(bytes, start, size).ok_or_else(cut_short)?, count))
}

/// An entry of the central directory.
struct Entry<'a> {
    name: &'a str,
    /// Where the member's own header begins.
    header: u64,
    /// The member's bytes.
    size: u64,
    /// Bytes of the entry itself.
    len: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let damaged = || "is damaged: its zip directory cannot be read".to_owned();
        if bytes.len() < CENTRAL_LEN || !bytes.starts_with(&CENTRAL_HEADER) {
            return Err(damaged());
        }
        let [name_len, extra_len, comment_len] = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
        let len = CENTRAL_LEN + name_len + extra_len + comment_len;
        if bytes.len() < len {
            return Err(damaged());
        }
        let name = std::str::from_utf8(&bytes[CENTRAL_LEN..][..name_len]).map_err(|_| damaged())?;
        let (flags, method) = (u16_at(bytes, 8), u16_at(bytes, 10));
        if flags & 1 != 0 {
            return Err(format!("has an encrypted member {}", name.escape_debug()));
        }
        if method != 0 {
            return Err(format!("has a compressed member {}, which torch.save does not write", name.escape_debug()));
        }
        let mut wide = WideFields(zip_64(&bytes[CENTRAL_LEN + name_len..][..extra_len]));
        let size = wide.field(u32_at(bytes, 24)).ok_or_else(damaged)?;
        let stored = wide.field(u32_at(bytes, 20)).ok_or_else(damaged)?;
        let header = wide.field(u32_at(bytes, 42)).ok_or_else(damaged)?;
        if size != stored {
            return Err(format!("is damaged: its member {} has two different sizes", name.escape_debug()));
        }
        Ok(Self { name, header, size, len })
    }

    /// The member's bytes, behind its own header, whose name and extra field have lengths of their own.
    fn data(&self, bytes: &[u8]) -> Result<Range<usize>, String> {
        let damaged = || {
            format!("is cut short or damaged: its member {} is not where the directory says", self.name.escape_debug())
        };
        let header = slice(bytes, self.header, LOCAL_LEN as u64).ok_or_else(damaged)?;
        if !header.starts_with(&LOCAL_HEADER) {
            return Err(damaged());
        }
        let skip = LOCAL_LEN + usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28));
        let start = self.header.checked_add(skip as u64).ok_or_else(damaged)?;
        let data = slice(bytes, start, self.size).ok_or_else(damaged)?;
        let start = start as usize; // `slice` has found it
        Ok(start..start + data.len())
    }
}

/// The fields of a zip64 extra field, of which there is one for every saturated field of the entry, in this order.
struct WideFields<'a>(&'a [u8]);

impl WideFields<'_> {
    fn field(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(narrow.into());
        }
        let (field, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*field))
    }
}

/// The contents of the zip64 extra field, if there is one.
fn zip_64(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (tag, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(data) = extra[4..].get(..len) else { break };
        if tag == ZIP_64 {
            return data;
        }
        extra = &extra[4 + len..];
    }
    &[]
}

fn slice(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(len).ok()?)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
