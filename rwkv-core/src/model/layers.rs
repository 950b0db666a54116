//! Burn's layers, filled by the initialisation policy and applied to sequences.

use super::init::Initializer;
use crate::config::LAYER_NORM_EPSILON;
use crate::ops::{RwkvBackend, inner_dtype, layer_norm as ops};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

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

/// What token shift needs to know of a sequence later on: `[B, T, C]` to `[B, C]`, in the state's dtype.
pub(super) fn last_token<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [batch, time, width] = x.dims();
    let inside = inner_dtype(x.dtype());
    x.narrow(1, time - 1, 1).reshape([batch, width]).cast(inside)
}
