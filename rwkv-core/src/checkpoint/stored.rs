//! A checkpoint of any format, as a list of tensors in mapped files.

use super::contents::Contents;
use super::dtype::FileDtype;
use super::format::{self, Container};
use super::{family, names, safetensors, schema};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An RWKV-4 checkpoint on disk: its tensors under their official names, not yet read into memory.
///
/// It can be a PyTorch `.pth`, safetensors under official or Hugging Face names, one file or several with an index, or a
/// file of rwkv.cpp; what the file contains decides, not what it is called. Opening it checks that it is whole and that
/// it has exactly the tensors of one RWKV-4 model, whose sizes follow from the shapes. Files are mapped into memory, so
/// a checkpoint costs next to nothing until its numbers are used.
///
/// # Example
/// ```
/// use rwkv_core::checkpoint::{Checkpoint, FileDtype};
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/model.safetensors");
/// let checkpoint = Checkpoint::open(file.as_ref())?;
/// assert_eq!(checkpoint.config().n_layer, 3);
/// let decay = checkpoint.tensor("blocks.0.att.time_decay").expect("every model has one");
/// assert_eq!((decay.shape, decay.dtype), ([48].as_slice(), FileDtype::F32));
/// # Ok::<_, rwkv_core::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    container: Container,
    config: RwkvConfig,
    files: Vec<Contents>,
    tensors: BTreeMap<String, Stored>,
}

/// A tensor of a checkpoint, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredTensor<'a> {
    /// The official shape; matrices are `[out, in]`.
    pub shape: &'a [usize],
    /// The number format.
    pub dtype: FileDtype,
    /// The numbers row by row, little-endian.
    pub bytes: &'a [u8],
}

/// A tensor as a reader finds it.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: FileDtype,
    pub data: Data,
}

/// Where a tensor's bytes are. Readers check that there are as many as the shape and the dtype need.
#[derive(Debug)]
pub(super) enum Data {
    InFile { file: usize, range: Range<usize> },
    Owned(Vec<u8>),
}

#[derive(Debug)]
struct Stored {
    shape: Vec<usize>,
    dtype: FileDtype,
    data: Data,
}

impl Checkpoint {
    /// Opens a checkpoint: a file, a run directory, or a folder in Hugging Face's layout.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for something that is not a whole checkpoint; [`Error::OtherModel`] for another
    /// generation or variant of RWKV; [`Error::Tensor`] for a missing, extra or misshapen tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let format::Opened { path, container, files, tensors } = format::open(path)?;
        Self::assemble(path, container, files, tensors)
    }

    /// Takes the contents of one file; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: &Path, bytes: Vec<u8>) -> Result<Self> {
        let contents = Contents::Memory(bytes);
        let (container, tensors) = format::read(name, &contents)?;
        Self::assemble(name.to_path_buf(), container, vec![contents], tensors)
    }

    fn assemble(path: PathBuf, container: Container, files: Vec<Contents>, mut found: Vec<Found>) -> Result<Self> {
        names::make_official(found.iter_mut().map(|tensor| &mut tensor.name));
        if let Some(refused) = family::refusal(&path, found.iter().map(|tensor| tensor.name.as_str())) {
            return Err(refused);
        }
        let mut tensors = BTreeMap::new();
        for Found { name, shape, dtype, data } in found {
            let shape = schema::usual_shape(&name, shape);
            if tensors.insert(name.clone(), Stored { shape, dtype, data }).is_some() {
                return Err(Error::format(path, format!("has two tensors {}", name.escape_debug())));
            }
        }
        let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
        let said = match (container, files.first()) {
            (Container::Safetensors, Some(file)) => safetensors::config(&path, file)?,
            _ => None,
        };
        let config = schema::config_of(&path, &shapes, said)?;
        Ok(Self { path, container, config, files, tensors })
    }

    /// The file that was opened; of a sharded checkpoint, its index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of file.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// The sizes of the model. `emb_init_scale`, which no file has, is the default.
    #[must_use]
    pub fn config(&self) -> &RwkvConfig {
        &self.config
    }

    /// The tensor of this official name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        self.tensors.get(name).map(|tensor| self.view(tensor))
    }

    /// All tensors with their official names, ordered by them.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, StoredTensor<'_>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), self.view(tensor)))
    }

    /// Puts other numbers, in `f32`, in the place of a tensor's.
    pub(super) fn replace(&mut self, name: &str, values: &[f32]) {
        if let Some(stored) = self.tensors.get_mut(name) {
            stored.dtype = FileDtype::F32;
            stored.data = Data::Owned(values.iter().copied().flat_map(f32::to_le_bytes).collect());
        }
    }

    /// Tells the system that a tensor's numbers have been used, so that loading does not pile up the file in memory.
    pub(super) fn release(&self, name: &str) {
        self.release_part(name, 0..usize::MAX);
    }

    /// [`Self::release`] for some of a tensor's bytes.
    pub(super) fn release_part(&self, name: &str, part: Range<usize>) {
        if let Some(Stored { data: Data::InFile { file, range }, .. }) = self.tensors.get(name) {
            let at = |offset: usize| range.start.saturating_add(offset).min(range.end);
            self.files[*file].release(&(at(part.start)..at(part.end)));
        }
    }

    fn view<'a>(&'a self, tensor: &'a Stored) -> StoredTensor<'a> {
        let bytes = match &tensor.data {
            Data::InFile { file, range } => &self.files[*file][range.clone()],
            Data::Owned(bytes) => bytes,
        };
        StoredTensor { shape: &tensor.shape, dtype: tensor.dtype, bytes }
    }
}
