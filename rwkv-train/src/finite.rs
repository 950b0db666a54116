//! Finding where numbers stopped being numbers.

use crate::data::Batch;
use crate::trainee::Trainee;
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use rwkv_core::loss::value;
use rwkv_core::model::{Hook, Rwkv};
use rwkv_core::ops::{RwkvAutodiffBackend, RwkvBackend};
use std::collections::HashMap;
use std::fmt;

/// What is said when no tensor is to blame.
pub(crate) const ALL_FINITE: &str = "every weight, intermediate and gradient is finite";

/// Names the first tensor with a number that is none: a weight, an intermediate of the forward pass, or a gradient.
pub(crate) fn first_bad<B: RwkvAutodiffBackend>(
    trainee: &Trainee<B>,
    grads: &GradientsParams,
    batch: Option<&Batch>,
) -> String {
    let names: HashMap<ParamId, String> = trainee.named_parameters().into_iter().map(|(name, id)| (id, name)).collect();
    let mut weights = Weights { bad: None };
    trainee.visit(&mut weights);
    if let Some(id) = weights.bad {
        return format!("the first bad tensor is the weight {}", names[&id]);
    }
    let intermediate = batch.and_then(|batch| first_bad_intermediate(&trainee.valid(), batch));
    if let Some(name) = intermediate {
        return format!("the first bad tensor is the intermediate {name}");
    }
    let mut gradients = Gradients { grads, bad: None };
    trainee.visit(&mut gradients);
    match gradients.bad {
        Some(id) => format!("the first bad tensor is the gradient of {}", names[&id]),
        None => ALL_FINITE.to_owned(),
    }
}

fn first_bad_intermediate<B: RwkvBackend>(trainee: &Trainee<B>, batch: &Batch) -> Option<String> {
    let model: &Rwkv<B> = &trainee.model;
    let row = batch.slice(0, batch.ctx_len);
    let tokens = row.tensors::<B>(&model.device()).0;
    let mut look = Look(None);
    model.forward_hooked(tokens, trainee.start(batch.size()), &mut look);
    look.0
}

/// Remembers the first intermediate that is not finite.
struct Look(Option<String>);

impl<B: RwkvBackend> Hook<B> for Look {
    fn at(&mut self, name: fmt::Arguments<'_>, tensor: Tensor<B, 3>) -> Tensor<B, 3> {
        if self.0.is_none() && !is_finite(tensor.clone()) {
            self.0 = Some(name.to_string());
        }
        tensor
    }
}

fn is_finite<B: burn::tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> bool {
    // A sum of absolute values would overflow where no number does.
    let parts = tensor.cast(DType::F32).mul_scalar(0.0).abs().sum();
    value(parts) == 0.0
}

struct Weights {
    bad: Option<ParamId>,
}

impl<B: RwkvAutodiffBackend> ModuleVisitor<B> for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.bad.is_none() && !is_finite(param.val().inner()) {
            self.bad = Some(param.id);
        }
    }
}

struct Gradients<'a> {
    grads: &'a GradientsParams,
    bad: Option<ParamId>,
}

impl<B: RwkvAutodiffBackend> ModuleVisitor<B> for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let grad = self.grads.get::<B::InnerBackend, D>(param.id);
        if self.bad.is_none() && grad.is_some_and(|grad| !is_finite(grad)) {
            self.bad = Some(param.id);
        }
    }
}
