//! Weights on disk: safetensors files under the official names.
//!
//! A checkpoint holds every tensor of [`schema::tensors`] and no other. Sizes are read from the tensors, so a file needs
//! nothing beside it; a *run directory*, as training writes it, holds `model.safetensors` and `tokenizer.json`.

mod header;
pub mod schema;

use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::files::replace_atomic;
use crate::model::Rwkv;
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn_store::{
    BurnToPyTorchAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore, TensorSnapshot,
};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The weights in a run directory.
pub const MODEL_FILE: &str = "model.safetensors";
/// The tokenizer in a run directory.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// The file that `path` means: itself, or [`MODEL_FILE`] in a run directory.
#[must_use]
pub fn model_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(MODEL_FILE) } else { path.to_path_buf() }
}

/// The sizes of the model in `path`, from the file's header alone.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`] for something that is not a whole safetensors file of an RWKV-4 model, and
/// [`Error::Tensor`] for a missing, extra or misshapen tensor.
pub fn read_config(path: &Path) -> Result<RwkvConfig> {
    let path = &model_file(path);
    let found = header::read(path)?;
    let config = schema::sizes(&found).map_err(|problem| Error::format(path, problem))?;
    config.validate().map_err(|error| Error::format(path, format!("is no usable model: {error}")))?;
    let wanted = schema::tensors(&config);
    let mismatch = |key: &str, expected: String, found: String| {
        Err(Error::Tensor { path: path.clone(), key: key.to_owned(), expected, found })
    };
    for (key, shape) in &wanted {
        match found.get(key) {
            Some(other) if other == shape => {}
            Some(other) => return mismatch(key, format!("shape {shape:?}"), format!("{other:?}")),
            None => return mismatch(key, format!("shape {shape:?}"), "no such tensor".into()),
        }
    }
    match found.iter().find(|(key, _)| !wanted.contains_key(*key)) {
        None => Ok(config),
        Some((key, shape)) => {
            mismatch(key, "no tensor of this name in an RWKV-4 model".into(), format!("shape {shape:?}"))
        }
    }
}

/// Loads the model in `path`, a safetensors file or a run directory, with `f32` weights.
///
/// To train the model, load it on an autodiff backend: a module that comes from the inner backend has parameters that
/// ask for no gradient.
///
/// # Errors
/// As [`read_config`].
pub fn load<B: Backend>(path: &Path, device: &B::Device) -> Result<Rwkv<B>> {
    let config = read_config(path)?;
    let path = model_file(path);
    let mut model = Rwkv::new(&config, 0, device);
    let mut store = SafetensorsStore::from_file(&path)
        .with_from_adapter(PyTorchToBurnAdapter.chain(ToF32))
        .allow_partial(true) // `read_config` has compared the names; the store does not know its adapter's renamings
        .validate(false);
    let result =
        model.load_from(&mut store).map_err(|error| Error::format(&path, format!("cannot be read: {error}")))?;
    if let Some(error) = result.errors.first() {
        return Err(Error::format(&path, format!("cannot be read: {error}")));
    }
    if let Some((key, _)) = result.missing.first() {
        return Err(Error::format(&path, format!("has no tensor for the parameter {key}")));
    }
    Ok(model)
}

/// Writes the model's weights to `path`, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::Format`] when the file cannot be written.
pub fn save<B: Backend>(model: &Rwkv<B>, path: &Path) -> Result<()> {
    replace_atomic(path, |temporary| {
        let mut store = SafetensorsStore::from_file(temporary)
            .with_to_adapter(BurnToPyTorchAdapter)
            .metadata("format", "pt")
            .overwrite(true);
        model.save_into(&mut store).map_err(|error| Error::format(path, format!("cannot be written: {error}")))
    })
}

/// Turns the published files' `bf16` and `f16` into `f32`: Burn would otherwise build parameters of the file's dtype.
#[derive(Debug, Clone)]
struct ToF32;

impl ModuleAdapter for ToF32 {
    fn adapt(&self, snapshot: &TensorSnapshot) -> TensorSnapshot {
        if snapshot.dtype == DType::F32 {
            return snapshot.clone();
        }
        let data = snapshot.clone_data_fn();
        TensorSnapshot::from_closure(
            Rc::new(move || Ok(data()?.convert_dtype(DType::F32))),
            DType::F32,
            snapshot.shape.clone(),
            snapshot.path_stack.clone().unwrap_or_default(),
            snapshot.container_stack.clone().unwrap_or_default(),
            snapshot.tensor_id.unwrap_or_default(),
        )
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}
