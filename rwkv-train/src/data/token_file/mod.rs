//! Token files in Megatron's format, which the official trainer reads: `PREFIX.bin` and `PREFIX.idx`.
//!
//! The `.bin` holds the tokens of all documents, one after the other, little-endian. The `.idx` holds
//!
//! | bytes | what |
//! |---|---|
//! | 9 | `MMIDIDX\0\0` |
//! | 8 | version, u64: 1 |
//! | 1 | the tokens' type: 1 u8, 4 i32, 8 u16 |
//! | 8 | how many sequences, u64 |
//! | 8 | how many entries the table of documents has, u64 |
//! | 4 each | the sequences' lengths in tokens, i32 |
//! | 8 each | where they begin in the `.bin`, in bytes, i64 |
//! | 8 each | the documents' first sequences, i64: 0 first, one past the last sequence last |
//!
//! # Source
//! `RWKV-LM/RWKV-v4neo/src/binidx.py`.

mod index;
mod read;
mod write;

pub use read::TokenFile;
pub use write::{TokenFileWriter, Written};

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What every `.idx` begins with.
const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
/// The only version there is.
const VERSION: u64 = 1;
/// Bytes before the tables.
const HEADER: usize = 34;

/// How a token file holds a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// One byte.
    U8,
    /// Two bytes: vocabularies of at most 65,536 tokens.
    U16,
    /// Four bytes with a sign, of which ids leave the negative half unused. What readers of this format know instead of
    /// an u32.
    I32,
}

impl TokenType {
    /// The type that a vocabulary of this size takes: u16 where it is large enough, else i32.
    #[must_use]
    pub fn for_vocab(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::I32 }
    }

    /// Bytes per token.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::I32 => 4,
        }
    }

    /// The largest id that fits.
    #[must_use]
    pub fn max_id(self) -> u32 {
        match self {
            Self::U8 => u32::from(u8::MAX),
            Self::U16 => u32::from(u16::MAX),
            Self::I32 => i32::MAX.cast_unsigned(),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::U8 => 1,
            Self::I32 => 4,
            Self::U16 => 8,
        }
    }

    /// The type of a code, or what a file of that code holds instead of tokens.
    fn from_code(code: u8) -> Result<Self, String> {
        let name = match code {
            1 => return Ok(Self::U8),
            4 => return Ok(Self::I32),
            8 => return Ok(Self::U16),
            2 => "i8",
            3 => "i16",
            5 => "i64",
            6 | 7 => "a float",
            _ => return Err(format!("{code}, which is no type")),
        };
        Err(format!("{code} ({name})"))
    }

    /// The ids in `bytes`. A negative i32 comes out as an id above [`Self::max_id`], which no vocabulary reaches.
    fn decode(self, bytes: &[u8]) -> Vec<u32> {
        match self {
            Self::U8 => bytes.iter().map(|&id| u32::from(id)).collect(),
            Self::U16 => bytes.as_chunks::<2>().0.iter().map(|&id| u32::from(u16::from_le_bytes(id))).collect(),
            Self::I32 => bytes.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id)).collect(),
        }
    }

    /// Appends an id that is at most [`Self::max_id`].
    fn encode(self, id: u32, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&id.to_le_bytes()[..self.width()]);
    }
}

/// The two files of a prefix; a prefix that ends in `.bin` or `.idx` is taken without it.
fn paths(prefix: &Path) -> (PathBuf, PathBuf) {
    let stem = match prefix.extension().and_then(|extension| extension.to_str()) {
        Some("bin" | "idx") => prefix.with_extension(""),
        _ => prefix.to_path_buf(),
    };
    (with_suffix(&stem, ".bin"), with_suffix(&stem, ".idx"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
