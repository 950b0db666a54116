//! Burn's layers, filled by the initialisation policy and applied to sequences.

use super::init::Initializer;
use crate::config::LAYER_NORM_EPSILON;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A projection without bias, as everywhere in RWKV-4.
pub(super) fn linear<B: Backend>(init: &Initializer<'_, B>, name: &str, inputs: usize, out: usize) -> Linear<B> {
    Linear { weight: init.matrix(&format!("{name}.weight"), inputs, out), bias: None }
}

/// A layer norm over the residual stream's width.
pub(super) fn layer_norm<B: Backend>(init: &Initializer<'_, B>, name: &str) -> LayerNorm<B> {
    let width = init.config.n_embd;
    let mut norm = LayerNormConfig::new(width).with_epsilon(LAYER_NORM_EPSILON).init(init.device);
    norm.gamma = init.tensor(&format!("{name}.weight"), [width]);
    norm.beta = Some(init.tensor(&format!("{name}.bias"), [width]));
    norm
}

/// Applies a projection to every token: `[B, T, in]` to `[B, T, out]`.
///
/// The tokens of all sequences form one matrix. As a batch of matrices, the weight's gradient would be computed once per
/// sequence and summed.
pub(super) fn project<B: Backend>(layer: &Linear<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [batch, time, inputs] = x.dims();
    let y = layer.forward(x.reshape([batch * time, inputs]));
    let [_, out] = y.dims();
    y.reshape([batch, time, out])
}
