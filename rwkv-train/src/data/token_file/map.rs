//! A file's bytes, mapped into memory.

use memmap2::Mmap;
use rwkv_core::error::{Error, Result};
use std::path::Path;

/// Maps a file; one without a byte is no map.
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::format(path, "is empty"));
    }
    // SAFETY: the map is only read, and as bytes, for which every value is valid. What cannot be excluded is that another
    // process changes the file meanwhile: then numbers change under our hands, and slices of the map, which are checked
    // where they are taken, hold other ids; or cuts it short: then the system ends this process, as with every program
    // that maps files. Our writer replaces files by renaming, which leaves maps of the old file intact.
    unsafe { Mmap::map(&file) }.map_err(Error::io("read", path))
}
