//! The `.idx`: checked once, then read where it lies.

use super::{HEADER, MAGIC, TokenType, VERSION};
use crate::error::{Error, Result};
use memmap2::Mmap;
use std::path::Path;

/// An index whose every number fits the two files.
#[derive(Debug)]
pub(super) struct Index {
    map: Mmap,
    pub(super) token_type: TokenType,
    /// Sequences.
    pub(super) sequences: usize,
    /// Entries of the table of documents.
    documents: usize,
}

impl Index {
    /// Checks an index against the `.bin`'s length in bytes.
    pub(super) fn new(map: Mmap, path: &Path, bin: u64) -> Result<Self> {
        let bad = |offset: usize, what, expected: String, found: String| Error::TokenFile {
            path: path.to_path_buf(),
            offset: offset as u64,
            what,
            expected,
            found,
        };
        let Some(header) = map.get(..HEADER) else {
            return Err(bad(0, "header", format!("{HEADER} bytes"), map.len().to_string()));
        };
        if &header[..9] != MAGIC {
            let found = String::from_utf8_lossy(&header[..9]).escape_debug().to_string();
            return Err(bad(0, "magic", "MMIDIDX\\0\\0".into(), found));
        }
        let version = u64_at(header, 9);
        if version != VERSION {
            return Err(bad(9, "version", VERSION.to_string(), version.to_string()));
        }
        let token_type = TokenType::from_code(header[17])
            .map_err(|found| bad(17, "type of the tokens", "1 (u8), 4 (i32) or 8 (u16)".into(), found))?;
        let (sequences, documents) = (u64_at(header, 18), u64_at(header, 26));
        let length = u128::from(sequences) * 12 + u128::from(documents) * 8 + HEADER as u128;
        if length != map.len() as u128 {
            let tables = format!("{length} bytes for {sequences} sequences and {documents} entries of documents");
            return Err(bad(18, "length of the file", tables, format!("{} bytes", map.len())));
        }
        // Both fit: the tables of that many entries are in memory.
        let index = Self { map, token_type, sequences: sequences as usize, documents: documents as usize };
        index.check(bin, &bad)?;
        Ok(index)
    }

    fn check(&self, bin: u64, bad: &impl Fn(usize, &'static str, String, String) -> Error) -> Result<()> {
        let mut end = 0u64;
        for i in 0..self.sequences {
            let (at, pointer_at) = (HEADER + 4 * i, HEADER + 4 * self.sequences + 8 * i);
            let pointer = i64_at(&self.map, pointer_at);
            if u64::try_from(pointer) != Ok(end) {
                let expected = format!("{end}, where the one before ends");
                return Err(bad(pointer_at, "beginning of a sequence", expected, pointer.to_string()));
            }
            let size = i32_at(&self.map, at);
            let within = u64::try_from(size).ok().map(|size| end + size * self.token_type.width() as u64);
            end = within.filter(|&end| end <= bin).ok_or_else(|| {
                let left = (bin - end) / self.token_type.width() as u64;
                bad(at, "length of a sequence", format!("at most {left}, what the .bin has left"), size.to_string())
            })?;
        }
        if end != bin {
            let what = "length of all sequences";
            return Err(bad(HEADER, what, format!("{bin} bytes, as the .bin has"), format!("{end} bytes")));
        }
        let mut last = 0;
        for i in 0..self.documents {
            let at = self.documents_at() + 8 * i;
            let first = i64_at(&self.map, at);
            last = usize::try_from(first).ok().filter(|first| (last..=self.sequences).contains(first)).ok_or_else(
                || bad(at, "first sequence of a document", format!("{last} to {}", self.sequences), first.to_string()),
            )?;
        }
        Ok(())
    }

    fn documents_at(&self) -> usize {
        HEADER + 12 * self.sequences
    }

    /// How many documents there are.
    pub(super) fn documents(&self) -> usize {
        match self.documents {
            0 => 0,
            // The last entry is an end, unless the writer forgot to end its last document.
            entries => entries - usize::from(self.first_sequence(entries - 1) == self.sequences),
        }
    }

    fn first_sequence(&self, document: usize) -> usize {
        i64_at(&self.map, self.documents_at() + 8 * document) as usize
    }

    /// The document's first token; the file's end for the entry past the last document.
    pub(super) fn start(&self, document: usize) -> usize {
        let sequence = self.first_sequence(document);
        if sequence == self.sequences {
            return usize::MAX;
        }
        i64_at(&self.map, HEADER + 4 * self.sequences + 8 * sequence) as usize / self.token_type.width()
    }

    /// Documents that begin before this token.
    pub(super) fn documents_before(&self, token: usize) -> usize {
        let (mut low, mut high) = (0, self.documents());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.start(middle) < token { low = middle + 1 } else { high = middle }
        }
        low
    }
}

// The callers stay inside the tables, whose ends were checked.

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("inside the tables")
}
