//! A moving average of the weights.

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use std::collections::HashMap;

/// The exponential moving average of a module's parameters: `e ← decay·e + (1 − decay)·p` after every update.
///
/// It is often a better model than the last one, above all at a high learning rate, and costs a copy of the weights.
pub struct Ema<B: AutodiffBackend, M: AutodiffModule<B>> {
    decay: f64,
    average: M::InnerModule,
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> Ema<B, M> {
    /// An average that begins with these parameters.
    #[must_use]
    pub fn new(decay: f64, average: M::InnerModule) -> Self {
        Self { decay, average }
    }

    /// The averaged module.
    pub fn average(&self) -> &M::InnerModule {
        &self.average
    }

    /// Takes in the parameters as they are now.
    #[must_use]
    pub fn update(self, module: &M) -> Self {
        let mut now = Flat { tensors: HashMap::new() };
        module.valid().visit(&mut now);
        let average = self.average.map(&mut Towards { now, decay: self.decay });
        Self { decay: self.decay, average }
    }
}

/// All parameters, flat.
struct Flat<B: Backend> {
    tensors: HashMap<ParamId, Tensor<B, 1>>,
}

impl<B: Backend> ModuleVisitor<B> for Flat<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.tensors.insert(param.id, param.val().flatten(0, D - 1));
    }
}

struct Towards<B: Backend> {
    now: Flat<B>,
    decay: f64,
}

impl<B: Backend> ModuleMapper<B> for Towards<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(now) = self.now.tensors.remove(&param.id) else { return param };
        let decay = self.decay;
        param.map(|average| {
            let now = now.reshape(average.dims());
            average.mul_scalar(decay) + now.mul_scalar(1.0 - decay)
        })
    }
}
