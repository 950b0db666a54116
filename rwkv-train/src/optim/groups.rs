//! Adam with a learning rate per group of parameters.

use burn::module::ParamId;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, GradientsParams, Optimizer};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::backend::AutodiffBackend;
use rwkv_core::error::{Error, Result};
use rwkv_core::files::write_atomic;
use rwkv_core::model::Rwkv;
use std::collections::HashMap;
use std::path::Path;

/// A group of parameters that share a factor on the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// `time_decay`, twice the rate.
    TimeDecay,
    /// `time_first`, three times the rate.
    TimeFirst,
    /// Everything else.
    Base,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 3] = [Self::TimeDecay, Self::TimeFirst, Self::Base];

    /// The group of the parameter with this official name.
    ///
    /// # Source
    /// Reference §4.2, `layerwise_lr` outside stage 2.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.contains("time_decay") {
            Self::TimeDecay
        } else if name.contains("time_first") {
            Self::TimeFirst
        } else {
            Self::Base
        }
    }

    /// The factor on the learning rate.
    #[must_use]
    pub fn lr_scale(self) -> f64 {
        match self {
            Self::TimeDecay => 2.0,
            Self::TimeFirst => 3.0,
            Self::Base => 1.0,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::TimeDecay => "optimizer.time_decay.mpk",
            Self::TimeFirst => "optimizer.time_first.mpk",
            Self::Base => "optimizer.base.mpk",
        }
    }
}

type GroupAdam<B> = OptimizerAdaptor<Adam, Rwkv<B>, B>;

/// Adam over the groups of an RWKV-4 model: bias-corrected, without weight decay.
///
/// # Source
/// Reference §4.2.
pub struct GroupedAdam<B: AutodiffBackend> {
    groups: Vec<(Group, Vec<ParamId>, GroupAdam<B>)>,
}

impl<B: AutodiffBackend> GroupedAdam<B> {
    /// An optimizer for this model's parameters, with nothing remembered.
    #[must_use]
    pub fn new(model: &Rwkv<B>, beta_1: f64, beta_2: f64, epsilon: f64) -> Self {
        let mut ids: HashMap<Group, Vec<ParamId>> = HashMap::new();
        for (name, id) in model.named_parameters() {
            ids.entry(Group::of(&name)).or_default().push(id);
        }
        let adam = AdamConfig::new().with_beta_1(beta_1 as f32).with_beta_2(beta_2 as f32).with_epsilon(epsilon as f32);
        let groups =
            Group::ALL.into_iter().map(|group| (group, ids.remove(&group).unwrap_or_default(), adam.init())).collect();
        Self { groups }
    }

    /// One update; parameters without a gradient stay as they are.
    #[must_use]
    pub fn step(&mut self, lr: f64, model: Rwkv<B>, mut grads: GradientsParams) -> Rwkv<B> {
        let mut model = model;
        for (group, ids, adam) in &mut self.groups {
            let mut take =
                Take::<B> { ids, from: &mut grads, into: GradientsParams::new(), backend: Default::default() };
            burn::module::Module::visit(&model, &mut take);
            let of_group = take.into;
            model = adam.step(lr * group.lr_scale(), model, of_group);
        }
        model
    }

    /// Writes the moments and step counts into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::new();
        for (group, _, adam) in &self.groups {
            let path = folder.join(group.file());
            let bytes = Recorder::<B>::record(&recorder, adam.to_record(), ())
                .map_err(|error| Error::format(&path, format!("cannot hold the optimizer's state: {error}")))?;
            write_atomic(&path, &bytes)?;
        }
        Ok(())
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When a file is missing or not the optimizer's.
    pub fn load(mut self, folder: &Path, device: &B::Device) -> Result<Self> {
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::new();
        let mut groups = Vec::new();
        for (group, ids, adam) in self.groups.drain(..) {
            let path = folder.join(group.file());
            let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
            let record = Recorder::<B>::load(&recorder, bytes, device)
                .map_err(|error| Error::format(&path, format!("is no optimizer state: {error}")))?;
            groups.push((group, ids, adam.load_record(record)));
        }
        Ok(Self { groups })
    }
}

/// Moves the gradients of some parameters from one container to another.
struct Take<'a, B> {
    ids: &'a [ParamId],
    from: &'a mut GradientsParams,
    into: GradientsParams,
    backend: std::marker::PhantomData<B>,
}

impl<B: AutodiffBackend> burn::module::ModuleVisitor<B> for Take<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<burn::tensor::Tensor<B, D>>) {
        if self.ids.contains(&param.id)
            && let Some(grad) = self.from.remove::<B::InnerBackend, D>(param.id)
        {
            self.into.register::<B::InnerBackend, D>(param.id, grad);
        }
    }
}
