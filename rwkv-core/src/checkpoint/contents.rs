//! A file's bytes: mapped into memory, or there already.

use crate::error::Result;
use crate::files;
use memmap2::Mmap;
use std::ops::{Deref, Range};
use std::path::Path;

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

    /// Lets the system take back the memory behind a part of the file that will not be read again soon.
    pub(super) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && range.end <= map.len()
        {
            // SAFETY: the map is read-only and backed by the file, so dropped pages are read again from it when needed.
            let advice = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.end - range.start)
            };
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
