//! From a checkpoint to a model, tensor by tensor.

use super::schema;
use super::stored::{Checkpoint, StoredTensor};
use crate::error::{Error, Result};
use crate::model::Rwkv;
use crate::model::names::ParameterPath;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// Rows of a matrix that are transposed together: one cache line of the result.
const ROWS: usize = 16;

impl Checkpoint {
    /// The model, with `f32` weights.
    ///
    /// Each tensor is converted and given to the backend before the next is looked at, so memory never holds more than
    /// the model and one tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a parameter of the model is not in the file.
    pub fn model<B: Backend>(&self, device: &B::Device) -> Result<Rwkv<B>> {
        let mut fill = Fill { checkpoint: self, path: ParameterPath::default(), missing: None };
        let model = Rwkv::new(self.config(), 0, device).map(&mut fill);
        match fill.missing {
            None => Ok(model),
            Some(key) => Err(Error::Tensor {
                path: self.path().to_path_buf(),
                key,
                expected: "a parameter's numbers".to_owned(),
                found: "no such tensor".to_owned(),
            }),
        }
    }
}

/// Replaces the parameters of a new model, none of which has been drawn yet.
struct Fill<'a> {
    checkpoint: &'a Checkpoint,
    path: ParameterPath,
    missing: Option<String>,
}

impl<B: Backend> ModuleMapper<B> for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.name();
        let Some(stored) = self.checkpoint.tensor(&name) else {
            self.missing.get_or_insert(name);
            return param;
        };
        let data = weights(&name, stored);
        self.checkpoint.release(&name);
        let (id, device, dtype) = (param.id, param.lazy_device(), data.dtype);
        // The parameter keeps its id and still asks for gradients.
        param.transform_for_load(Tensor::from_data(data, (&device, dtype)), id)
    }
}

/// The numbers of a parameter as the model holds them: the one place that decides their dtype and layout.
///
/// Projections are `[out, in]` in files and `[in, out]` in Burn's `Linear`; the embedding table is `[V, C]` in both.
fn weights(name: &str, stored: StoredTensor<'_>) -> TensorData {
    match *stored.shape {
        [out, inputs] if schema::is_projection(name, 2) => {
            TensorData::new(transposed(stored, out, inputs), [inputs, out])
        }
        ref shape => {
            let mut values = vec![0.0f32; shape.iter().product()];
            stored.dtype.decode(stored.bytes, &mut values);
            TensorData::new(values, shape.to_vec())
        }
    }
}

/// A matrix's numbers column by column.
fn transposed(stored: StoredTensor<'_>, out: usize, inputs: usize) -> Vec<f32> {
    let mut values = vec![0.0f32; out * inputs];
    let mut rows = vec![0.0f32; ROWS * inputs];
    let row_bytes = inputs * stored.dtype.size();
    for (block, bytes) in stored.bytes.chunks(ROWS * row_bytes).enumerate() {
        let count = bytes.len() / row_bytes;
        stored.dtype.decode(bytes, &mut rows[..count * inputs]);
        for (i, column) in values.chunks_exact_mut(out).enumerate() {
            let column = &mut column[block * ROWS..][..count];
            column.iter_mut().zip(rows.iter().skip(i).step_by(inputs)).for_each(|(value, x)| *value = *x);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::FileDtype;

    #[test]
    fn matrices_are_transposed_in_blocks_that_need_not_fill() {
        let (out, inputs) = (2 * ROWS + 3, 5);
        let bytes: Vec<u8> = (0..out * inputs).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let stored = StoredTensor { shape: &[out, inputs], dtype: FileDtype::F32, bytes: &bytes };
        let values = transposed(stored, out, inputs);
        for o in 0..out {
            for i in 0..inputs {
                assert_eq!(values[i * out + o], (o * inputs + i) as f32);
            }
        }
    }
}
