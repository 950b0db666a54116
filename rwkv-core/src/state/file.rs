//! States on disk: safetensors files with `layers.N.att_x`, `layers.N.ffn_x` and `layers.N.wkv`, all `f32`.
//!
//! The file's metadata holds
//!
//! | key | value |
//! |---|---|
//! | `format` | `rwkv4-state` |
//! | `version` | [`FORMAT_VERSION`] |
//! | `model` | the [`Fingerprint`]'s hash |
//!
//! A state means something to the weights that made it and to no others, even of the same sizes; hence the fingerprint.
//! A file that lacks any of the three is refused, those that were written before there was a version among them: whose
//! state it is cannot be told.

use super::{Fingerprint, LayerState, State};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;

/// The version of the file format that is written, and the newest one that is read.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "rwkv4-state";

impl<B: Backend> State<B> {
    /// Writes the state to a file, as one of the model with this [fingerprint](crate::model::Rwkv::fingerprint).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when it cannot be written.
    pub fn save(&self, path: &Path, model: &Fingerprint) -> Result<()> {
        let mut tensors = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            tensors.push((format!("layers.{l}.att_x"), bytes(layer.att_x.clone())));
            tensors.push((format!("layers.{l}.ffn_x"), bytes(layer.ffn_x.clone())));
            tensors.push((format!("layers.{l}.wkv"), bytes(layer.wkv.clone())));
        }
        let bad = |error| Error::format(path, format!("cannot hold the state: {error}"));
        let views = tensors
            .iter()
            .map(|(name, (shape, data))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(bad)?;
        let metadata =
            [("format", FORMAT.to_owned()), ("version", FORMAT_VERSION.to_string()), ("model", model.to_string())];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let file = safetensors::serialize(views, Some(metadata)).map_err(bad)?;
        write_atomic(path, &file)
    }

    /// Reads a state that [`Self::save`] wrote for the model with this fingerprint.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for something that is no state, a state of another model or one of a future
    /// version; [`Error::Tensor`] for tensors that are not those of the model's sizes.
    pub fn load(path: &Path, model: &Fingerprint, device: &B::Device) -> Result<Self> {
        let file = std::fs::read(path).map_err(Error::io("read", path))?;
        let no_state = |error| Error::format(path, format!("is no state of this library: {error}"));
        let (_, header) = SafeTensors::read_metadata(&file).map_err(no_state)?;
        check_metadata(header.metadata().as_ref(), model).map_err(|problem| Error::format(path, problem))?;
        let file = SafeTensors::deserialize(&file).map_err(no_state)?;
        let config = model.config();
        let batch = file.tensor("layers.0.att_x").ok().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
        if batch == 0 {
            return Err(Error::format(path, "is a state of no sequences"));
        }
        let expected = config.n_layer * 3;
        if file.len() != expected {
            let problem = format!("is no state of this model: it holds {} tensors, not {expected}", file.len());
            return Err(Error::format(path, problem));
        }
        let layer = |l: usize| -> Result<LayerState<B>> {
            Ok(LayerState {
                att_x: read(&file, path, format!("layers.{l}.att_x"), [batch, config.n_embd], device)?,
                ffn_x: read(&file, path, format!("layers.{l}.ffn_x"), [batch, config.n_embd], device)?,
                wkv: read(&file, path, format!("layers.{l}.wkv"), [batch, 3, config.dim_att], device)?,
            })
        };
        Ok(Self { layers: (0..config.n_layer).map(layer).collect::<Result<_>>()? })
    }
}

/// Says, as the end of a sentence that begins with the file's name, why it is not a state of this model.
fn check_metadata(metadata: Option<&HashMap<String, String>>, model: &Fingerprint) -> std::result::Result<(), String> {
    let entry = |key: &str| metadata.and_then(|metadata| metadata.get(key)).map(String::as_str);
    if entry("format").is_some_and(|format| format != FORMAT) {
        return Err(format!("is no state of this library: its format is {:?}", entry("format").unwrap_or_default()));
    }
    let Some(version) = entry("version").filter(|_| entry("format").is_some()) else {
        return Err("says neither its format version nor its model, so it cannot be told whose state it is".to_owned());
    };
    match version.parse::<u32>() {
        Ok(version) if (1..=FORMAT_VERSION).contains(&version) => {}
        Ok(version) if version > FORMAT_VERSION => {
            return Err(format!(
                "is a state in version {version} of the format; this library reads up to {FORMAT_VERSION}"
            ));
        }
        _ => return Err(format!("is no state of this library: its format version is {version:?}")),
    }
    let found = entry("model").unwrap_or("not named");
    if found != model.to_string() {
        return Err(format!("is a state of another model: its weights are {found}, those of this model {model}"));
    }
    Ok(())
}

fn bytes<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> (Vec<usize>, Vec<u8>) {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert_dtype(DType::F32);
    (shape, data.iter::<f32>().flat_map(f32::to_le_bytes).collect())
}

fn read<B: Backend, const D: usize>(
    file: &SafeTensors<'_>,
    path: &Path,
    key: String,
    shape: [usize; D],
    device: &B::Device,
) -> Result<Tensor<B, D>> {
    let found = match file.tensor(&key) {
        Ok(tensor) if tensor.shape() == shape && tensor.dtype() == Dtype::F32 => {
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
            return Ok(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)));
        }
        Ok(tensor) => format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
        Err(_) => "no such tensor".to_owned(),
    };
    Err(Error::Tensor { path: path.to_path_buf(), key, expected: format!("F32 {shape:?}"), found })
}
