//! Small safetensors files that mean something to one model only: states and adapters.
//!
//! All tensors are `f32`. The metadata holds
//!
//! | key | value |
//! |---|---|
//! | `format` | what the file is, [`Stamp::format`] |
//! | `version` | the version of that format |
//! | `model` | the [`Fingerprint`]'s hash |
//!
//! A file that lacks any of the three is refused: whose it is cannot be told.

use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::state::Fingerprint;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;

/// A kind of file.
pub(crate) struct Stamp {
    /// The metadata's `format`.
    pub format: &'static str,
    /// The version that is written, and the newest one that is read.
    pub version: u32,
    /// What people call it.
    pub what: &'static str,
}

/// A tensor on its way to a file: its name, its shape and its numbers row by row.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

impl Stamp {
    /// Writes a file for the model with this fingerprint, with more metadata than the stamp if there is any.
    pub(crate) fn write(
        &self,
        path: &Path,
        tensors: Vec<Named>,
        more: &[(&str, String)],
        model: &Fingerprint,
    ) -> Result<()> {
        let bad = |error| Error::format(path, format!("cannot hold the {}: {error}", self.what));
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape, values)| (name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(bad)?;
        let stamp =
            [("format", self.format.to_owned()), ("version", self.version.to_string()), ("model", model.to_string())];
        let metadata = stamp.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let file = safetensors::serialize(views, Some(metadata)).map_err(bad)?;
        write_atomic(path, &file)
    }

    /// The tensors and the metadata in a file's bytes, if the file is of this kind and of the model with this fingerprint.
    pub(crate) fn read<'a>(
        &self,
        path: &Path,
        file: &'a [u8],
        model: &Fingerprint,
    ) -> Result<(SafeTensors<'a>, HashMap<String, String>)> {
        let other = |error| Error::format(path, format!("is no {} of this library: {error}", self.what));
        let (_, header) = SafeTensors::read_metadata(file).map_err(other)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        self.check(&metadata, model).map_err(|problem| Error::format(path, problem))?;
        Ok((SafeTensors::deserialize(file).map_err(other)?, metadata))
    }

    /// Says, as the end of a sentence that begins with the file's name, why it is not one of this model.
    fn check(&self, metadata: &HashMap<String, String>, model: &Fingerprint) -> std::result::Result<(), String> {
        let what = self.what;
        let entry = |key: &str| metadata.get(key).map(String::as_str);
        if let Some(format) = entry("format").filter(|format| *format != self.format) {
            return Err(format!("is no {what} of this library: its format is {format:?}"));
        }
        let Some(version) = entry("version").filter(|_| entry("format").is_some()) else {
            return Err(format!(
                "says neither its format version nor its model, so it cannot be told whose {what} it is"
            ));
        };
        match version.parse::<u32>() {
            Ok(version) if (1..=self.version).contains(&version) => {}
            Ok(version) if version > self.version => {
                let newest = self.version;
                return Err(format!(
                    "is a {what} in version {version} of the format; this library reads up to {newest}"
                ));
            }
            _ => return Err(format!("is no {what} of this library: its format version is {version:?}")),
        }
        let found = entry("model").unwrap_or("not named");
        if found != model.to_string() {
            return Err(format!("is a {what} of another model: its weights are {found}, those of this model {model}"));
        }
        Ok(())
    }
}

/// The numbers of a tensor that must be there in this shape.
pub(crate) fn numbers(file: &SafeTensors<'_>, path: &Path, key: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let found = match file.tensor(key) {
        Ok(tensor) if tensor.shape() == shape && tensor.dtype() == Dtype::F32 => {
            let bytes = tensor.data().chunks_exact(4);
            return Ok(bytes.map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect());
        }
        Ok(tensor) => format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
        Err(_) => "no such tensor".to_owned(),
    };
    Err(Error::Tensor { path: path.to_path_buf(), key: key.to_owned(), expected: format!("F32 {shape:?}"), found })
}
