//! Clipping all gradients together.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};

/// Scales all gradients by `min(1, max_norm/‖g‖)`, and returns `‖g‖`, the norm over all of them before that.
///
/// The norm stays on the device: nothing waits for it here.
///
/// # Shapes
/// - returns `[1]`; zero when the module has no gradient
///
/// # Source
/// Reference §4.2: global norm 1.0. Burn's own clipping is per tensor.
pub fn clip_global_norm<B: AutodiffBackend, M: Module<B>>(
    module: &M,
    grads: &mut GradientsParams,
    max_norm: f64,
    device: &B::Device,
) -> Tensor<B::InnerBackend, 1> {
    let mut squares = Squares::<B> { grads, terms: Vec::new() };
    module.visit(&mut squares);
    if squares.terms.is_empty() {
        return Tensor::zeros([1], device);
    }
    let norm = Tensor::cat(squares.terms, 0).sum().sqrt();
    let factor = norm.clone().add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
    module.visit(&mut Scale::<B> { grads, factor });
    norm
}

struct Squares<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    terms: Vec<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            self.terms.push(grad.cast(DType::F32).square().sum());
        }
    }
}

struct Scale<'a, B: AutodiffBackend> {
    grads: &'a mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) {
            let factor = self.factor.clone().cast(grad.dtype()).reshape([1; D]);
            self.grads.register::<B::InnerBackend, D>(param.id, grad * factor);
        }
    }
}
