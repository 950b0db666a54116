//! States on disk: safetensors files with `layers.N.att_x`, `layers.N.ffn_x` and `layers.N.wkv`, all `f32`.

use super::{LayerState, State};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;

impl<B: Backend> State<B> {
    /// Writes the state to a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
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
        let file = safetensors::serialize(views, None).map_err(bad)?;
        write_atomic(path, &file)
    }

    /// Reads a state that [`Self::save`] wrote, of a model with these sizes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] for something that is no state, and [`Error::Tensor`] for a state of another
    /// model.
    pub fn load(path: &Path, config: &RwkvConfig, device: &B::Device) -> Result<Self> {
        let file = std::fs::read(path).map_err(Error::io("read", path))?;
        let file = SafeTensors::deserialize(&file)
            .map_err(|error| Error::format(path, format!("is no state of this library: {error}")))?;
        let batch = file.tensor("layers.0.att_x").ok().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
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
