//! Burn's layers, filled by the initialisation policy and applied to sequences.

use super::init::Initializer;
use crate::config::LAYER_NORM_EPSILON;
use crate::ops::{RwkvBackend, layer_norm as ops};
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

/// Normalises every token.
pub(super) fn normalise<B: RwkvBackend, const D: usize>(norm: &LayerNorm<B>, x: Tensor<B, D>) -> Tensor<B, D> {
    let bias = norm.beta.as_ref().expect("every layer norm of RWKV-4 has a bias");
    ops::layer_norm(x, norm.gamma.val(), bias.val(), LAYER_NORM_EPSILON)
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

/// What token shift needs to know of a sequence later on: `[B, T, C]` to `[B, C]`.
pub(super) fn last_token<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [batch, time, width] = x.dims();
    x.narrow(1, time - 1, 1).reshape([batch, width])
}
