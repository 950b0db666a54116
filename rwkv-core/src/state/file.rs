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
use crate::model::Memory;
use crate::stamp::{Named, Stamp, numbers};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensors;
use std::path::Path;

/// The version of the file format that is written, and the newest one that is read.
pub const FORMAT_VERSION: u32 = 1;

const STAMP: Stamp = Stamp { format: "rwkv4-state", version: FORMAT_VERSION, what: "state" };

impl<B: Backend> State<B> {
    /// Writes the state to a file, as one of the model with this [fingerprint](crate::model::Rwkv::fingerprint).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when it cannot be written.
    pub fn save(&self, path: &Path, model: &Fingerprint) -> Result<()> {
        let mut tensors = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            tensors.push(named(format!("layers.{l}.att_x"), layer.att_x.clone()));
            tensors.push(named(format!("layers.{l}.ffn_x"), layer.ffn_x.clone()));
            tensors.push(named(format!("layers.{l}.wkv"), layer.memory.clone()));
        }
        STAMP.write(path, tensors, &[], model)
    }

    /// Reads a state that [`Self::save`] wrote for the model with this fingerprint.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for something that is no state, a state of another model or one of a future
    /// version; [`Error::Tensor`] for tensors that are not those of the model's sizes.
    pub fn load(path: &Path, model: &Fingerprint, device: &B::Device) -> Result<Self> {
        let file = std::fs::read(path).map_err(Error::io("read", path))?;
        let (file, _) = STAMP.read(path, &file, model)?;
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
        let memory_shape = |l: usize| -> [usize; 3] {
            let Memory { rows, columns, grows } = config.mixers.memory(config, l);
            let rows = rows.len();
            // A memory that grows with the text has as many rows as it has.
            let found = file.tensor(&format!("layers.{l}.wkv")).ok().and_then(|tensor| tensor.shape().get(1).copied());
            [batch, if grows { found.unwrap_or(rows).max(1) } else { rows }, columns]
        };
        let layer = |l: usize| -> Result<LayerState<B>> {
            Ok(LayerState {
                att_x: read(&file, path, &format!("layers.{l}.att_x"), [batch, config.n_embd], device)?,
                ffn_x: read(&file, path, &format!("layers.{l}.ffn_x"), [batch, config.n_embd], device)?,
                memory: read(&file, path, &format!("layers.{l}.wkv"), memory_shape(l), device)?,
            })
        };
        Ok(Self { layers: (0..config.n_layer).map(layer).collect::<Result<_>>()? })
    }
}

fn named<B: Backend, const D: usize>(name: String, tensor: Tensor<B, D>) -> Named {
    let shape = tensor.dims().to_vec();
    (name, shape, tensor.into_data().convert_dtype(DType::F32).iter().collect())
}

fn read<B: Backend, const D: usize>(
    file: &SafeTensors<'_>,
    path: &Path,
    key: &str,
    shape: [usize; D],
    device: &B::Device,
) -> Result<Tensor<B, D>> {
    Ok(Tensor::from_data(TensorData::new(numbers(file, path, key, &shape)?, shape), (device, DType::F32)))
}
