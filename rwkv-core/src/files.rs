//! Files that are whole or not there, and files as bytes in memory.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How names of unfinished files begin; the process follows, and the finished file's name.
const PARTIAL: &str = ".partial-";

/// Writes a file beside `path` and renames it, so that no reader ever sees half of it.
///
/// # Errors
/// [`Error::Io`]; `path` is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_atomic(path, |temporary| std::fs::write(temporary, bytes).map_err(Error::io("write", path)))
}

/// Lets `write` make a file beside `path` and renames it.
///
/// # Errors
/// What `write` returns, or [`Error::Io`]; `path` is untouched then, and the temporary file removed.
pub fn replace_atomic(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = beside(path);
    let outcome = write(&temporary)
        .and_then(|()| {
            let file = std::fs::File::open(&temporary).map_err(Error::io("read", &temporary))?;
            file.sync_all().map_err(Error::io("write", path))
        })
        .and_then(|()| std::fs::rename(&temporary, path).map_err(Error::io("write", path)));
    if outcome.is_err() {
        let _ = std::fs::remove_file(&temporary); // it may never have come to be
    }
    outcome
}

/// A name in the same folder that no finished file has. The extension stays: some writers go by it.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(format!("{PARTIAL}{}-", std::process::id()));
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Removes what killed processes left of their writing of `path`. Only for files that nobody else is writing now.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_leftovers(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_leftover = |file: &str| {
        let rest = file.strip_prefix(PARTIAL).and_then(|rest| rest.strip_suffix(&name)?.strip_suffix('-'));
        rest.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !folder.is_dir() {
        return Ok(()); // nothing was ever written there
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Makes sure that names in a folder survive a loss of power: a renamed file is only as safe as its folder.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Windows has no such thing for folders, and needs none.
    if cfg!(windows) {
        return Ok(());
    }
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("write", folder))
}

/// Maps a file into memory: it takes none that the system could not take back.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for something that is no file, and for a file without a byte, which is no map.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::format(path, "is empty"));
    }
    // SAFETY: the map is only read, and as bytes, for which every value is valid. What cannot be excluded is that another
    // process changes the file meanwhile: then numbers change under our hands, and readers check each before they use it as
    // an index; or cuts it short: then the system ends this process, as with every program that maps files. This library
    // replaces files by renaming, which leaves maps of the old file intact.
    unsafe { Mmap::map(&file) }.map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_one_file_go_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let others =
            [".partial-7-other.json", ".partial-x-a.json", ".partial-7-not-a.json", "a.json", ".partial--a.json"];
        for name in others.iter().chain(&[".partial-7-a.json", ".partial-81-a.json"]) {
            std::fs::write(at(name), "x").expect("written");
        }
        remove_leftovers(&at("a.json")).expect("removed");
        assert!(others.iter().all(|name| at(name).exists()));
        assert!(!at(".partial-7-a.json").exists() && !at(".partial-81-a.json").exists());
        write_atomic(&at("a.json"), b"new").expect("written");
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), others.len());
    }
}
