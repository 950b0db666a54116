//! What a user calls a model: a path, or a name on a hub.

use crate::error::Result;
use std::path::{Path, PathBuf};

/// Begins the name of a model on the Hugging Face hub.
pub const HUB_PREFIX: &str = "hf:";

/// How far a download has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file's name in its repository.
    pub file: &'a str,
    /// Bytes here.
    pub done: u64,
    /// Bytes altogether.
    pub total: u64,
}

/// The path of a model: `model` itself, or for `hf:OWNER/NAME[@REVISION][:FILE]` the file in the local cache, downloaded
/// if it is not there yet.
///
/// # Errors
/// [`Error::Download`](crate::error::Error::Download) when there is no such model, several in the repository and none is
/// chosen, no connection, or no feature `hub` in this build.
pub fn resolve(model: &Path) -> Result<PathBuf> {
    resolve_with(model, &mut |_| ())
}

/// As [`resolve`]; `progress` hears of every piece that arrives.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(model: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
    match model.to_str().and_then(|model| model.strip_prefix(HUB_PREFIX)) {
        Some(name) => from_hub(name, progress),
        None => Ok(model.to_path_buf()),
    }
}

#[cfg(feature = "hub")]
fn from_hub(name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
    super::hub::Hub::from_env(name)?.fetch(name, progress)
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str, _progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
    Err(crate::error::Error::Download {
        model: format!("{HUB_PREFIX}{name}"),
        endpoint: "a hub".to_owned(),
        problem: "downloads are not compiled in; build with --features hub".to_owned(),
    })
}
