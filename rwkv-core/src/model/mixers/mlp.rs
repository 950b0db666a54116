//! The Transformer's feed-forward layer.

use super::attention::biased;
use super::kinds::{small_init, wang_init};
use crate::config::RwkvConfig;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Two layers with biases and GELU between them.
///
/// ```text
/// out = W_v·gelu(W_k·x + b_k) + b_v        gelu(x) = x·Φ(x)
/// ```
///
/// # Source
/// GPT-NeoX's `ParallelMLP`, as in Pythia; the matrices have the names of RWKV's channel-mix.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// `W_k`, from `C` to `F`.
    pub key: Projection<B>,
    /// `b_k`, `[F]`.
    pub key_bias: Param<Tensor<B, 1>>,
    /// `W_v`, from `F` to `C`.
    pub value: Projection<B>,
    /// `b_v`, `[C]`.
    pub value_bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Mlp<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str) -> Self {
        let (c, f) = (init.config.n_embd, init.config.dim_ffn);
        Self {
            key: Projection::new(init, &format!("{name}.key"), c, f),
            key_bias: init.tensor(&format!("{name}.key_bias"), [f]),
            value: Projection::new(init, &format!("{name}.value"), f, c),
            value_bias: init.tensor(&format!("{name}.value_bias"), [c]),
        }
    }

    pub(super) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { key, value, .. } = self;
        vec![("key", key), ("value", value)]
    }
}

/// How its parameters start.
pub(super) fn rule(name: &[&str], config: &RwkvConfig) -> Option<Rule> {
    match name {
        ["key", "weight"] => Some(small_init(config)),
        ["value", "weight"] => Some(wang_init(config)),
        ["key_bias" | "value_bias"] => Some(Rule::Zeros),
        _ => None,
    }
}

/// `x·Φ(x)`, from the error function: the gradient of Burn 0.21's own is that of an approximation on most backends, and
/// off by up to 5e-4.
fn gelu<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let phi = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * phi
}

impl<B: RwkvBackend> Mlp<B> {
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        mut at: impl FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let k = at("key", biased(&self.key, &self.key_bias, x.clone()));
        let y = at("output", biased(&self.value, &self.value_bias, gelu(k)));
        (y, last_token(x))
    }
}
