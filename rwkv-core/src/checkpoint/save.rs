//! From a model to a safetensors file under official names.

use super::dtype::FileDtype;
use super::{safetensors, schema};
use crate::error::{Error, Result};
use crate::files::replace_atomic;
use crate::model::Rwkv;
use crate::model::names::ParameterPath;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, bf16, f16};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes the model's weights to `path`, whole or not at all; each tensor in its own dtype, one after the other.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Config`] for a model whose weights were changed to run: packed
/// ones are not what they were, nor are those rescaled for `f16`; or for one with [adapters](crate::model::Lora), which a
/// checkpoint has no place for.
pub fn save<B: Backend>(model: &Rwkv<B>, path: &Path) -> Result<()> {
    if model.only_runs() {
        return Err(Error::config("model", "weights as they were trained", "weights changed to run in less memory"));
    }
    if model.lora_config().is_some() {
        let expected = "a model without adapters: merge them with merge_lora, or save them alone with lora";
        return Err(Error::config("model", expected, "one with LoRA adapters"));
    }
    let mut list = List::default();
    model.visit(&mut list);
    let header = safetensors::header(
        &model.config(),
        list.tensors.iter().map(|(name, dtype, shape)| (name.as_str(), *dtype, &shape[..])),
    );
    replace_atomic(path, |temporary| {
        let file = std::fs::File::create(temporary).map_err(Error::io("write", path))?;
        let mut write = Numbers { path: ParameterPath::default(), file: BufWriter::new(file), outcome: Ok(()) };
        write.outcome = write.file.write_all(&header);
        model.visit(&mut write);
        write.outcome.and_then(|()| write.file.flush()).map_err(Error::io("write", path))
    })
}

/// The format in which a parameter of this dtype is stored.
fn file_dtype(dtype: DType) -> FileDtype {
    match dtype {
        DType::F16 => FileDtype::F16,
        DType::BF16 => FileDtype::Bf16,
        _ => FileDtype::F32,
    }
}

/// Names, formats and official shapes, in the module's order.
#[derive(Default)]
struct List {
    path: ParameterPath,
    tensors: Vec<(String, FileDtype, Vec<usize>)>,
}

impl<B: Backend> ModuleVisitor<B> for List {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = self.path.name();
        let tensor = param.val();
        let mut shape = tensor.dims().to_vec();
        if schema::is_projection(&name, D) {
            shape.reverse();
        }
        self.tensors.push((name, file_dtype(tensor.dtype()), shape));
    }
}

/// Writes the numbers in the same order.
struct Numbers {
    path: ParameterPath,
    file: BufWriter<std::fs::File>,
    outcome: std::io::Result<()>,
}

impl<B: Backend> ModuleVisitor<B> for Numbers {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.outcome.is_err() {
            return;
        }
        let tensor = param.val();
        let tensor = if schema::is_projection(&self.path.name(), D) { tensor.swap_dims(0, 1) } else { tensor };
        let dtype = file_dtype(tensor.dtype());
        let data = tensor.into_data();
        let file = &mut self.file;
        self.outcome = match dtype {
            FileDtype::F32 => data.iter().try_for_each(|value: f32| file.write_all(&value.to_le_bytes())),
            FileDtype::F16 => data.iter().try_for_each(|value: f16| file.write_all(&value.to_le_bytes())),
            FileDtype::Bf16 => data.iter().try_for_each(|value: bf16| file.write_all(&value.to_le_bytes())),
        };
    }
}
