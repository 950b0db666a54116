//! Weights on disk: every published kind of RWKV-4 checkpoint comes in, and most go out.
//!
//! | kind | in | out |
//! |---|---|---|
//! | safetensors, official names | yes | [`save`], [`Checkpoint::export`] |
//! | safetensors, Hugging Face's names, one file or several with an index | yes | [`Checkpoint::export`], one file |
//! | PyTorch's `.pth` and `pytorch_model.bin`, in `bf16`, `f16` or `f32` | yes, parsed and never executed | – |
//! | rwkv.cpp's `ggmf` in `f32` or `f16` | yes | [`Checkpoint::export`] |
//!
//! A checkpoint holds every tensor of [`schema::tensors`] and no other. Sizes are read from the tensors, so a file needs
//! nothing beside it; a *run directory*, as training writes it, holds `model.safetensors` and `tokenizer.json`. Files
//! are told apart by their content and mapped into memory; a [`Checkpoint`] is the list of their tensors, and
//! [`Checkpoint::model`] the model.
//!
//! # Source
//! Reference §2.

mod contents;
mod dtype;
mod export;
mod family;
mod fill;
mod format;
mod ggmf;
#[cfg(feature = "hub")]
pub mod hub;
mod merge;
mod names;
mod pickle;
mod pth;
mod resolve;
mod safetensors;
mod save;
pub mod schema;
mod shards;
mod stored;
mod zip;

pub use dtype::FileDtype;
pub use export::{DEFAULT_CONTEXT_LENGTH, ExportOptions, Format, HUGGING_FACE_CONFIG};
pub use format::Container;
pub use resolve::{HUB_PREFIX, Progress, resolve, resolve_with};
pub use save::save;
pub use stored::{Checkpoint, StoredTensor};

use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::{Precision, Rwkv};
use crate::ops::RwkvBackend;
use burn::tensor::backend::Backend;
use std::path::{Path, PathBuf};

/// The weights in a run directory.
pub const MODEL_FILE: &str = "model.safetensors";
/// The tokenizer in a run directory.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// The files that may be the model in a folder, the first that is there.
const FOLDER_FILES: [&str; 4] =
    [MODEL_FILE, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The file that `path` means: itself, or the model in a folder, which is [`MODEL_FILE`] unless the folder has it in
/// another of Hugging Face's forms.
#[must_use]
pub fn model_file(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_path_buf();
    }
    let there = FOLDER_FILES.iter().find(|name| path.join(name).is_file());
    path.join(there.unwrap_or(&MODEL_FILE))
}

/// The sizes of the model in `path`; no numbers are read for that.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn read_config(path: &Path) -> Result<RwkvConfig> {
    Ok(Checkpoint::open(path)?.config().clone())
}

/// Loads the model in `path`, a checkpoint of any kind or a folder with one, with `f32` weights.
///
/// To train the model, load it on an autodiff backend: a module that comes from the inner backend has parameters that
/// ask for no gradient.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn load<B: Backend>(path: &Path, device: &B::Device) -> Result<Rwkv<B>> {
    Checkpoint::open(path)?.model(device)
}

/// [`load`] with weights of this precision, to run the model in less memory and time; see [`Precision`].
///
/// # Errors
/// As [`load`], and [`Error::Config`](crate::error::Error::Config) when the backend has no such numbers.
pub fn load_in<B: RwkvBackend>(path: &Path, precision: Precision, device: &B::Device) -> Result<Rwkv<B>> {
    Checkpoint::open(path)?.model_in(precision, device)
}
