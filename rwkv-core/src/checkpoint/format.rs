//! From a path to tensors: which file is meant, what it contains, which reader it needs.

use super::contents::Contents;
use super::stored::{Data, Found};
use super::{FOLDER_FILES, ggmf, model_file, pth, safetensors, shards, zip};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The kinds of files that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// PyTorch's zip file with a pickle.
    Pth,
    /// Safetensors.
    Safetensors,
    /// rwkv.cpp's `ggmf`.
    RwkvCpp,
}

/// Tensors and the files that they are in.
pub(super) struct Opened {
    pub path: PathBuf,
    pub container: Container,
    pub files: Vec<Contents>,
    pub tensors: Vec<Found>,
}

/// Opens a file or folder.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let folder = path;
    let path = model_file(folder);
    if folder.is_dir() && !path.is_file() {
        let wanted = FOLDER_FILES.join(", ");
        return Err(Error::format(folder, format!("is a folder without a model: it has none of {wanted}")));
    }
    let contents = Contents::map(&path)?;
    if shards::is_index(&contents) {
        return shards::open(path, &contents);
    }
    let (container, tensors) = read(&path, &contents)?;
    Ok(Opened { path, container, files: vec![contents], tensors })
}

/// Finds the tensors in one file's bytes.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Container, Vec<Found>)> {
    if zip::is_zip(bytes) {
        Ok((Container::Pth, pth::read(path, bytes)?))
    } else if ggmf::is_ggmf(bytes) {
        Ok((Container::RwkvCpp, ggmf::read(path, bytes)?))
    } else if safetensors::is_safetensors(bytes) {
        Ok((Container::Safetensors, safetensors::read(path, bytes)?))
    } else {
        Err(Error::format(path, unknown(bytes)))
    }
}

/// What is known about a file that no reader takes, as the end of a sentence.
fn unknown(bytes: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"version https://git-lfs", "is a Git LFS pointer, not the model: fetch it with `git lfs pull`"),
        (b"GGUF", "is a GGUF file, which holds quantised models of llama.cpp; convert the original instead"),
        (b"lmgg", "is a file of an early rwkv.cpp without a version; convert the original again"),
        (
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19",
            "was written by PyTorch before 1.6; load it there and save it again",
        ),
        (b"\x80", "is a bare pickle, which could hold anything; PyTorch writes checkpoints as zip files"),
        (b"<", "is a web page or XML, not a model; was the download refused?"),
        (b"\x93NUMPY", "is an array of NumPy, not a model"),
    ];
    let known = KNOWN.iter().find(|(start, _)| bytes.starts_with(start));
    known.map_or("is no checkpoint: neither a PyTorch zip file, nor safetensors, nor of rwkv.cpp", |(_, what)| what)
}

/// Moves what a reader found in a file alone to that file's place among several.
pub(super) fn at_file(tensors: Vec<Found>, index: usize) -> impl Iterator<Item = Found> {
    tensors.into_iter().map(move |mut tensor| {
        if let Data::InFile { file, .. } = &mut tensor.data {
            *file = index;
        }
        tensor
    })
}
