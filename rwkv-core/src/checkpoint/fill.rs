//! From a checkpoint to a model, tensor by tensor.

use super::schema;
use super::stored::{Checkpoint, StoredTensor};
use crate::error::{Error, Result};
use crate::model::names::ParameterPath;
use crate::model::{Precision, Rwkv, precision};
use crate::ops::RwkvBackend;
use crate::ops::packed::{PackedMatrix, Packing};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// Rows of a matrix that are transposed together: one cache line of the result.
const ROWS: usize = 16;

/// Bytes of a packed matrix that are read from the file before the memory behind them goes back to the system.
const READ_AHEAD: usize = 1 << 20;

impl Checkpoint {
    /// The model, with `f32` weights.
    ///
    /// Each tensor is converted and given to the backend before the next is looked at, so memory never holds more than
    /// the model and one tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a parameter of the model is not in the file.
    pub fn model<B: Backend>(&self, device: &B::Device) -> Result<Rwkv<B>> {
        self.fill(Rwkv::new(self.config(), 0, device), DType::F32, 0)
    }

    /// The model with weights of this precision, to run: packed where tensors are in main memory, tensors of that dtype
    /// elsewhere. Packed weights take memory for the model and a mebibyte of the file, tensors as for [`Self::model`].
    ///
    /// # Errors
    /// [`Error::Tensor`] when a parameter of the model is not in the file, [`Error::Config`] when the backend or its
    /// device has no such numbers.
    pub fn model_in<B: RwkvBackend>(&self, precision: Precision, device: &B::Device) -> Result<Rwkv<B>> {
        if B::IN_MAIN_MEMORY {
            self.packed_model(precision.packing(), device)
        } else {
            self.tensor_model(precision, device)
        }
    }

    /// [`Self::model_in`] with tensors of that dtype on any backend, none of them larger than the device can hold.
    ///
    /// # Errors
    /// As [`Self::model_in`].
    pub fn tensor_model<B: RwkvBackend>(&self, precision: Precision, device: &B::Device) -> Result<Rwkv<B>> {
        self.tensor_model_within(precision, B::max_tensor_bytes(device), device)
    }

    /// [`Self::tensor_model`] with matrices of at most so many bytes: larger ones are cut into pieces.
    ///
    /// # Errors
    /// As [`Self::model_in`].
    pub fn tensor_model_within<B: Backend>(
        &self,
        precision: Precision,
        max_bytes: usize,
        device: &B::Device,
    ) -> Result<Rwkv<B>> {
        let unusable = |expected: &str| Error::config("dtype", expected, precision.name());
        let dtype = precision.dtype().ok_or_else(|| unusable("f32, f16 or bf16 on this backend"))?;
        if !B::supports_dtype(device, dtype) {
            return Err(unusable("a number format that this device computes with, as f32"));
        }
        let mut model = Rwkv::new(self.config(), 0, device);
        // The rescaling is that of the official code, for RWKV-4.
        let rescale_every = if self.config().mixers.are_rwkv4() { precision.rescale_every() } else { 0 };
        model.set_rescale_every(rescale_every);
        let divided_by = |name: &str| precision::divisor(name, rescale_every);
        let too_large = |[a, b]: [usize; 2]| a * b * dtype.size() > max_bytes;
        if too_large(model.emb.shape()) {
            model.emb.cut(self.pieces("emb.weight", dtype, 1.0, max_bytes, device)?);
        }
        for (name, projection) in model.projections_mut() {
            if too_large(projection.shape()) {
                projection.cut(self.pieces(&name, dtype, divided_by(&name), max_bytes, device)?);
            }
        }
        self.fill(model, dtype, rescale_every)
    }

    /// A matrix as tensors of consecutive rows in the file's order, each of at most so many bytes (or one row).
    fn pieces<B: Backend>(
        &self,
        name: &str,
        dtype: DType,
        divisor: f32,
        max_bytes: usize,
        device: &B::Device,
    ) -> Result<Vec<Tensor<B, 2>>> {
        let stored = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        let &[_, columns] = stored.shape else { return Err(self.lacks(name)) };
        let rows = (max_bytes / (columns * dtype.size())).max(1);
        let piece = |bytes: &[u8]| {
            let shape = [bytes.len() / (columns * stored.dtype.size()), columns];
            let data = weights(name, StoredTensor { shape: &shape, dtype: stored.dtype, bytes }, divisor);
            Tensor::from_data(data, (device, dtype))
        };
        let pieces = stored.bytes.chunks(rows * columns * stored.dtype.size()).map(piece).collect();
        self.release(name);
        Ok(pieces)
    }

    fn packed_model<B: Backend>(&self, packing: Packing, device: &B::Device) -> Result<Rwkv<B>> {
        let mut model = Rwkv::new(self.config(), 0, device);
        // Bytes with one scale would cost rare tokens their embeddings.
        let of_table = if packing == Packing::Int8 { Packing::Bf16 } else { packing };
        model.emb.pack(self.pack(of_table, "emb.weight")?);
        for (name, projection) in model.projections_mut() {
            projection.pack(self.pack(packing, &name)?);
        }
        self.fill(model, DType::F32, 0)
    }

    /// A matrix, read and packed row by row; the file's pages are let go on the way.
    fn pack(&self, packing: Packing, name: &str) -> Result<PackedMatrix> {
        let stored = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        let &[rows, columns] = stored.shape else { return Err(self.lacks(name)) };
        let row_bytes = columns * stored.dtype.size();
        let (mut worst, mut kept) = (None, 0);
        let packed = PackedMatrix::pack(packing, rows, columns, |row, out| {
            let bytes = row * row_bytes..(row + 1) * row_bytes;
            stored.dtype.decode(&stored.bytes[bytes.clone()], out);
            worst = worst.or_else(|| out.iter().copied().find(|&value| !packing.holds(value)));
            if bytes.end - kept >= READ_AHEAD || row + 1 == rows {
                self.release_part(name, kept..bytes.end);
                kept = bytes.end;
            }
        });
        match worst {
            None => Ok(packed),
            Some(value) => Err(self.unsuitable(name, &format!("{packing:?}"), value)),
        }
    }

    /// The model with all its parameters from this checkpoint, its matrices in this dtype.
    fn fill<B: Backend>(&self, model: Rwkv<B>, dtype: DType, rescale_every: usize) -> Result<Rwkv<B>> {
        let mut fill = Fill { checkpoint: self, path: ParameterPath::default(), dtype, rescale_every, failure: None };
        let model = model.map(&mut fill);
        fill.failure.map_or(Ok(model), Err)
    }

    fn unsuitable(&self, name: &str, numbers: &str, value: f32) -> Error {
        Error::Tensor {
            path: self.path().to_path_buf(),
            key: name.to_owned(),
            expected: format!("numbers that {numbers} holds"),
            found: value.to_string(),
        }
    }

    fn lacks(&self, name: &str) -> Error {
        Error::Tensor {
            path: self.path().to_path_buf(),
            key: name.to_owned(),
            expected: "a parameter's numbers".to_owned(),
            found: "no such tensor".to_owned(),
        }
    }
}

/// Replaces the parameters of a new model, none of which has been drawn yet.
struct Fill<'a> {
    checkpoint: &'a Checkpoint,
    path: ParameterPath,
    /// Of the matrices and the embedding table; everything else is `f32`.
    dtype: DType,
    rescale_every: usize,
    failure: Option<Error>,
}

impl<B: Backend> ModuleMapper<B> for Fill<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.name();
        let Some(stored) = self.checkpoint.tensor(&name) else {
            self.failure.get_or_insert(self.checkpoint.lacks(&name));
            return param;
        };
        let data = weights(&name, stored, precision::divisor(&name, self.rescale_every));
        self.checkpoint.release(&name);
        let (id, device) = (param.id, param.lazy_device());
        let dtype = if D == 2 { self.dtype } else { DType::F32 };
        if dtype == DType::F16
            && let Some(value) = data.iter::<f32>().find(|&value| !Packing::F16.holds(value))
        {
            self.failure.get_or_insert(self.checkpoint.unsuitable(&name, "F16", value));
        }
        // The parameter keeps its id and still asks for gradients.
        param.transform_for_load(Tensor::from_data(data, (&device, dtype)), id)
    }
}

/// The numbers of a parameter as the model holds them, divided by a power of two.
///
/// Projections are `[out, in]` in files and `[in, out]` in the model; the embedding table is `[V, C]` in both.
pub(super) fn weights(name: &str, stored: StoredTensor<'_>, divisor: f32) -> TensorData {
    let mut data = match *stored.shape {
        [out, inputs] if schema::is_projection(name, 2) => (transposed(stored, out, inputs), vec![inputs, out]),
        ref shape => {
            let mut values = vec![0.0f32; shape.iter().product()];
            stored.dtype.decode(stored.bytes, &mut values);
            (values, shape.to_vec())
        }
    };
    if divisor != 1.0 {
        data.0.iter_mut().for_each(|value| *value /= divisor);
    }
    TensorData::new(data.0, data.1)
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
