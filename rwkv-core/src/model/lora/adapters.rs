//! Adapters in a model.

use super::{Lora, LoraConfig};
use crate::error::{Error, Result};
use crate::model::init::{Initializer, id_of};
use crate::model::{Projection, Rwkv};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

impl<B: Backend> Rwkv<B> {
    /// The model with none of its parameters asking for a gradient. Clones, optimizers and
    /// [`valid`](burn::module::AutodiffModule::valid) keep it so.
    #[must_use]
    pub fn frozen(self) -> Self {
        // Burn's own way to ask parameters that are not drawn yet is forgotten by `valid`; this one draws them.
        self.no_grad()
    }

    /// Puts a new adapter beside every matrix that `config` names, and [freezes](Self::frozen) everything else.
    ///
    /// `A` is drawn by the seed and the parameter's name, `B` starts at zero, so the model computes what it did before, to
    /// the last bit. The weights under the adapters may be packed or cut.
    ///
    /// # Errors
    /// [`Error::Config`] when [`LoraConfig::validate`] refuses the configuration, or the model has adapters already or is
    /// rescaled for `f16`.
    ///
    /// # Example
    /// ```
    /// use rwkv_core::config::RwkvConfig;
    /// use rwkv_core::model::{LoraConfig, Rwkv};
    /// # #[cfg(feature = "flex")] {
    /// type B = burn::backend::Autodiff<burn::backend::Flex>;
    /// let base = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
    /// let fingerprint = base.fingerprint();
    /// let model = base.add_lora(&LoraConfig::default(), 0)?;
    /// assert!(model.named_parameters().iter().any(|(name, _)| name == "blocks.1.ffn.value.lora_b"));
    /// // … train it, then keep the adapters as a small file, or a model with them added to its weights:
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("adapter.safetensors");
    /// model.lora().expect("just added").save(&path, &fingerprint)?;
    /// let merged = model.merge_lora()?;
    /// assert!(merged.lora_config().is_none());
    /// # }
    /// # Ok::<_, rwkv_core::error::Error>(())
    /// ```
    pub fn add_lora(self, config: &LoraConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let (sizes, device) = (self.config(), self.device());
        let init = Initializer { config: &sizes, seed, device: &device };
        self.adapt(config, |name, [inputs, out]| {
            let a = init.tensor(&format!("{name}.lora_a"), [inputs, config.rank]);
            (a, init.tensor(&format!("{name}.lora_b"), [config.rank, out]))
        })
    }

    /// [`Self::add_lora`] with adapters that were trained before.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Self::add_lora`], or when the adapters are those of a model of other sizes. That they
    /// belong to these very weights is what [`Lora::load`] looks at.
    ///
    /// # Panics
    /// Never: what could is refused first.
    pub fn with_lora(self, lora: &Lora) -> Result<Self> {
        let device = self.device();
        let mut model = self;
        lora.check_fits(model.projections_mut().into_iter().map(|(name, projection)| {
            let [inputs, out] = projection.shape();
            (without_weight(name), [out, inputs])
        }))?;
        let parameter = |name: String, values: &[f32], shape: [usize; 2]| {
            let tensor = Tensor::from_data(TensorData::new(values.to_vec(), shape), (&device, DType::F32));
            Param::initialized(id_of(&name), tensor.require_grad())
        };
        let rank = lora.config().rank;
        model.adapt(lora.config(), |name, [inputs, out]| {
            let [a, b] = lora.matrix(name).expect("there is one for every target, checked above");
            let a = parameter(format!("{name}.lora_a"), a, [inputs, rank]);
            (a, parameter(format!("{name}.lora_b"), b, [rank, out]))
        })
    }

    fn adapt(
        self,
        config: &LoraConfig,
        adapter: impl Fn(&str, [usize; 2]) -> (Param<Tensor<B, 2>>, Param<Tensor<B, 2>>),
    ) -> Result<Self> {
        if self.lora.is_some() {
            return Err(Error::config("model", "one without adapters", "one that has LoRA adapters already"));
        }
        if self.rescale_every() > 0 {
            return Err(Error::config("model", "f32 or bf16 weights under adapters", "weights rescaled for f16"));
        }
        let mut model = self.frozen();
        for (name, projection) in model.adapted_by(config) {
            let (a, b) = adapter(&name, projection.shape());
            projection.adapt(a, b, config.scale());
        }
        model.lora = Some(config.clone());
        Ok(model)
    }

    /// The projections that `config` names, by their names without `.weight`.
    fn adapted_by(&mut self, config: &LoraConfig) -> Vec<(String, &mut Projection<B>)> {
        let matrices = self.projections_mut().into_iter().map(|(name, projection)| (without_weight(name), projection));
        matrices.filter(|(name, _)| config.targets.iter().any(|target| target.is(name))).collect()
    }

    /// The configuration of the adapters; nothing where there are none.
    #[must_use]
    pub fn lora_config(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// The adapters' values as they are now; nothing where there are none.
    #[must_use]
    pub fn lora(&self) -> Option<Lora> {
        let config = self.lora.clone()?;
        let mut model = self.clone();
        let host = |param: &Param<Tensor<B, 2>>| param.val().into_data().convert_dtype(DType::F32).iter().collect();
        let matrices = (model.adapted_by(&config).into_iter())
            .filter_map(|(name, projection)| {
                let (a, b, _) = projection.adapter()?;
                Some((name, [host(a), host(b)]))
            })
            .collect();
        Some(Lora::new(config, matrices))
    }

    /// The model with its adapters added to its weights, `W + (alpha/rank)·A·B`: a plain model that computes the same up
    /// to rounding. Its parameters stay frozen.
    ///
    /// # Errors
    /// [`Error::Config`] for weights that are packed or cut, which only run. To run merged weights in fewer bits, merge the
    /// adapters into the [checkpoint](crate::checkpoint::Checkpoint::merge_lora).
    pub fn merge_lora(self) -> Result<Self> {
        if self.lora.is_some() && self.only_runs() {
            return Err(Error::config(
                "model",
                "weights as they were trained",
                "weights changed to run in less memory",
            ));
        }
        Ok(self.without_adapters(Projection::merge_adapter))
    }

    /// The model without its adapters: what it was before them. Its parameters stay frozen.
    #[must_use]
    pub fn remove_lora(self) -> Self {
        self.without_adapters(Projection::remove_adapter)
    }

    fn without_adapters(mut self, remove: impl Fn(&mut Projection<B>)) -> Self {
        self.projections_mut().into_iter().for_each(|(_, projection)| remove(projection));
        self.lora = None;
        self
    }
}

/// The name of a matrix, from that of its weight.
fn without_weight(mut name: String) -> String {
    name.truncate(name.len() - ".weight".len());
    name
}
