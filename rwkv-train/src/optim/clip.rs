//! The length of all gradients together, by which [`Adam`](super::Adam) shortens them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::ops::sum_of_squares::sum_of_squares;

/// `‖g‖`, the norm over all gradients of a module.
///
/// It stays on the device: nothing waits for it here. All gradients are of one dtype.
///
/// # Shapes
/// - returns `[1]`; zero when the module has no gradient
pub fn global_norm<B: RwkvAutodiffBackend, M: Module<B>>(
    module: &M,
    grads: &GradientsParams,
    device: &B::Device,
) -> Tensor<B::InnerBackend, 1> {
    let mut all = Gradients::<B> { grads, found: Vec::new() };
    module.visit(&mut all);
    if all.found.is_empty() {
        return Tensor::zeros([1], device);
    }
    sum_of_squares::<B::InnerBackend>(all.found).sqrt()
}

struct Gradients<'a, B: RwkvAutodiffBackend> {
    grads: &'a GradientsParams,
    found: Vec<FloatTensor<B::InnerBackend>>,
}

impl<B: RwkvAutodiffBackend> ModuleVisitor<B> for Gradients<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            self.found.push(grad.into_primitive().tensor());
        }
    }
}
