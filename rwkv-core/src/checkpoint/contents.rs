//! A file's bytes: mapped into memory, or there already.

use crate::error::Result;
use crate::files;
use memmap2::Mmap;
use std::ops::{Deref, Range};
use std::path::Path;

/// Most of a file that Linux maps when one byte of it is read: a huge page. Without these neighbours, small tensors here and
/// there in a file leave tens of megabytes of it in memory.
#[cfg(unix)]
const MAPPED_AT_ONCE: usize = 2 << 20;

/// The bytes of one file.
#[derive(Debug)]
pub(super) enum Contents {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl Contents {
    /// Maps a file: it takes no memory that the system could not take back.
    pub(super) fn map(path: &Path) -> Result<Self> {
        files::map(path).map(Self::Mapped)
    }

    /// Lets the system take back the memory behind a part of the file that will not be read again soon, and what it mapped
    /// around it.
    pub(super) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && range.end <= map.len()
        {
            let start = range.start / MAPPED_AT_ONCE * MAPPED_AT_ONCE;
            let end = range.end.next_multiple_of(MAPPED_AT_ONCE).min(map.len());
            // SAFETY: the map is read-only and backed by the file, so dropped pages are read again from it when needed.
            let advice = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            drop(advice); // only advice: where it is refused, the pages stay until the system wants them
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}
