//! The matrices of a model in the numbers of the passes.

use crate::config::Precision;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// A module whose matrices, and with them the residual stream, are in this precision. With autodiff the conversion is part
/// of the graph: gradients arrive at the `f32` parameters.
pub(super) fn of<B: Backend, M: Module<B>>(module: &M, precision: Precision) -> M {
    match precision {
        Precision::F32 => module.clone(),
        Precision::Bf16 => module.clone().map(&mut Cast(DType::BF16)),
    }
}

struct Cast(DType);

impl<B: Backend> ModuleMapper<B> for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        // Norms and the parameters of time are vectors, and stay.
        if D == 2 { param.map(|matrix| matrix.cast(self.0)) } else { param }
    }
}
