//! Adam over the named parameters of a module.

use super::Groups;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{DType, Shape, Tensor, TensorData, TensorPrimitive};
use rwkv_core::error::{Error, Result};
use rwkv_core::files::replace_atomic;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::ops::adam::{AdamStep, AdamUpdate, adam};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Adam's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// The decay of the first moment.
    pub beta_1: f64,
    /// The decay of the second moment.
    pub beta_2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Which parameters learn faster, and which decay.
    pub groups: Groups,
}

/// What one update is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The learning rate of the groups whose factor is 1.
    pub lr: f64,
    /// The weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// The largest norm of all gradients together: longer ones are shortened to it.
    pub max_norm: f64,
}

/// Adam with bias correction, decoupled weight decay and a learning rate per group, over the parameters of a module by
/// their names.
///
/// Moments are kept flat, in `f32`, under the parameter's official name.
///
/// # Source
/// Reference §4.2.
pub struct Adam<B: AutodiffBackend> {
    config: AdamConfig,
    names: HashMap<ParamId, String>,
    moments: BTreeMap<String, [Tensor<B::InnerBackend, 1>; 2]>,
    updates: u64,
}

impl<B: RwkvAutodiffBackend> Adam<B> {
    /// An optimizer with nothing remembered, for parameters of these names.
    #[must_use]
    pub fn new(config: AdamConfig, names: impl IntoIterator<Item = (String, ParamId)>) -> Self {
        let names = names.into_iter().map(|(name, id)| (id, name)).collect();
        Self { config, names, moments: BTreeMap::new(), updates: 0 }
    }

    /// Updates so far.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update; parameters without a gradient, or without a name, stay as they are to the last bit.
    ///
    /// `norm` is that of the gradients, such as [`global_norm`](super::global_norm). Where it is infinite or NaN, everything
    /// stays as it is; that is decided where the tensors are, so the update is counted all the same, until
    /// [`Self::leave_out`].
    ///
    /// # Shapes
    /// - `norm`: `[1]`
    ///
    /// # Panics
    /// When `norm` is not one number.
    #[must_use]
    pub fn step<M: Module<B>>(
        &mut self,
        update: Update,
        module: M,
        grads: GradientsParams,
        norm: Tensor<B::InnerBackend, 1>,
    ) -> M {
        self.updates += 1;
        let norm = norm.cast(DType::F32);
        let (stand_in, learners, updates) = (norm.clone(), Vec::new(), Vec::new());
        let mut taking = Taking { adam: self, grads, update, stand_in, learners, updates };
        let module = module.map(&mut taking);
        let Taking { learners, updates, grads, .. } = taking;
        // Those of parameters without a name.
        drop(grads);
        let after = learners.into_iter().zip(adam(updates, norm));
        let after = after.map(|((id, shape), tensors)| (id, Learnt(shape, tensors))).collect();
        module.map(&mut PuttingBack { adam: self, after })
    }

    /// Counts an update less: one whose norm turned out to be no number.
    pub fn leave_out(&mut self) {
        self.updates = self.updates.saturating_sub(1);
    }

    /// Writes the moments as a safetensors file: `NAME.exp_avg` and `NAME.exp_avg_sq`, flat, in this library's layout
    /// (matrices `[in, out]`). The number of updates stands in the metadata.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let metadata = HashMap::from([("updates".to_owned(), self.updates.to_string())]);
        let tensors = self.moments.iter().flat_map(|(name, [first, second])| {
            [(format!("{name}.exp_avg"), Lazy::new(first)), (format!("{name}.exp_avg_sq"), Lazy::new(second))]
        });
        let tensors: Vec<_> = tensors.collect();
        replace_atomic(path, |temporary| {
            safetensors::serialize_to_file(tensors, Some(metadata), temporary).map_err(|error| match error {
                safetensors::SafeTensorError::IoError(source) => Error::io("write", path)(source),
                other => Error::format(path, format!("cannot hold the optimizer's state: {other}")),
            })
        })
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When the file is missing or not an optimizer's, or knows parameters that the model has not.
    pub fn load(mut self, path: &Path, device: &B::Device) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let no_state = |problem: String| Error::format(path, format!("is no optimizer state: {problem}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| no_state(error.to_string()))?;
        let updates = header.metadata().as_ref().and_then(|metadata| metadata.get("updates")?.parse().ok());
        self.updates = updates.ok_or_else(|| no_state("it does not say how many updates it has seen".to_owned()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| no_state(error.to_string()))?;
        let known: Vec<&String> = self.names.values().collect();
        for name in file.names() {
            let Some(parameter) = name.strip_suffix(".exp_avg") else { continue };
            if !known.iter().any(|known| *known == parameter) {
                return Err(no_state(format!("the model has no parameter {parameter}")));
            }
            let read = |key: &str| -> Result<Tensor<B::InnerBackend, 1>> {
                let tensor = file.tensor(key).map_err(|error| no_state(error.to_string()))?;
                if tensor.dtype() != Dtype::F32 {
                    return Err(no_state(format!("{key} is not F32")));
                }
                let values: Vec<f32> =
                    tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
                let length = values.len();
                Ok(Tensor::from_data(TensorData::new(values, [length]), (device, DType::F32)))
            };
            let moments = [read(name)?, read(&format!("{parameter}.exp_avg_sq"))?];
            self.moments.insert(parameter.to_owned(), moments);
        }
        Ok(self)
    }
}

/// Takes parameters out of a module, with their gradients and moments, and leaves next to nothing in their place: what is
/// held twice could not be written over.
struct Taking<'a, B: AutodiffBackend> {
    adam: &'a mut Adam<B>,
    grads: GradientsParams,
    update: Update,
    /// One number, to stand in for every parameter.
    stand_in: Tensor<B::InnerBackend, 1>,
    /// Whose the updates are, and of which shape.
    learners: Vec<(ParamId, Shape)>,
    updates: Vec<AdamUpdate<B::InnerBackend>>,
}

impl<B: RwkvAutodiffBackend> ModuleMapper<B> for Taking<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(name) = self.adam.names.get(&param.id) else { return param };
        let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        let (shape, trains) = (tensor.dims(), tensor.is_require_grad());
        let flat = |x: Tensor<B::InnerBackend, D>| x.reshape([shape.iter().product::<usize>()]);
        let (param, grad) = (flat(tensor.inner()), flat(grad).cast(DType::F32));
        let [first, second] =
            self.adam.moments.remove(name).unwrap_or_else(|| [param.zeros_like(), param.zeros_like()]);
        let AdamConfig { beta_1, beta_2, epsilon, groups } = self.adam.config;
        let step = AdamStep {
            lr: self.update.lr * groups.lr_scale(name),
            beta_1,
            beta_2,
            epsilon,
            max_norm: self.update.max_norm,
            weight_decay: if groups.decays(name, D) { self.update.weight_decay } else { 0.0 },
            updates: self.adam.updates,
        };
        let [param, grad, first, second] = [param, grad, first, second].map(|x| x.into_primitive().tensor());
        self.learners.push((id, shape.into()));
        self.updates.push(AdamUpdate { param, grad, first, second, step });
        let stand_in = Tensor::<B, D>::from_inner(self.stand_in.clone().reshape([1; D]));
        Param::from_mapped_value(id, stand_in.set_require_grad(trains), mapper)
    }
}

/// Puts parameters back after the update, and their moments.
struct PuttingBack<'a, B: AutodiffBackend> {
    adam: &'a mut Adam<B>,
    after: HashMap<ParamId, Learnt<B::InnerBackend>>,
}

/// A parameter's shape, and the parameter and its moments after the update, flat.
struct Learnt<B: Backend>(Shape, [FloatTensor<B>; 3]);

impl<B: RwkvAutodiffBackend> ModuleMapper<B> for PuttingBack<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(Learnt(shape, [learnt, first, second])) = self.after.remove(&param.id) else { return param };
        let (id, stand_in, mapper) = param.consume();
        if let Some(name) = self.adam.names.get(&id) {
            let moments = [first, second].map(|x| Tensor::from_primitive(TensorPrimitive::Float(x)));
            self.adam.moments.insert(name.clone(), moments);
        }
        let learnt = TensorPrimitive::Float(B::InnerBackend::float_reshape(learnt, shape));
        let tensor = Tensor::<B, D>::from_inner(Tensor::from_primitive(learnt));
        Param::from_mapped_value(id, tensor.set_require_grad(stand_in.is_require_grad()), mapper)
    }
}

/// A tensor that comes to the host when it is written.
struct Lazy<B: Backend> {
    tensor: Tensor<B, 1>,
    shape: [usize; 1],
}

impl<B: Backend> Lazy<B> {
    fn new(tensor: &Tensor<B, 1>) -> Self {
        Self { tensor: tensor.clone(), shape: tensor.dims() }
    }
}

impl<B: Backend> View for Lazy<B> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let data = self.tensor.clone().into_data().convert_dtype(DType::F32);
        Cow::Owned(data.iter::<f32>().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.shape[0]
    }
}
