//! Attention without a softmax.

use super::division::divided;
use super::kinds::{small_init, wang_init};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter, projections};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::Initializer;
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`LinearAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearAttentionSettings {
    /// Heads; each has `dim_att/n_head` channels.
    pub n_head: usize,
}

impl Default for LinearAttentionSettings {
    fn default() -> Self {
        Self { n_head: 4 }
    }
}

impl MixerSettings for LinearAttentionSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        let read =
            ["query.weight", "key.weight", "value.weight"].map(|name| Parameter::new(name, [a, c], small_init(config)));
        read.into_iter().chain([Parameter::new("output.weight", [c, a], wang_init(config))]).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::zeros(config.dim_att, config.dim_att / self.n_head.max(1) + 1)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        let (a, size) = (config.dim_att as f64, (config.dim_att / self.n_head) as f64);
        // Into the memory and out of it, and the products inside a chunk: half of the square.
        projections(&self.parameters(config)) + 2.0 * a * (size + 1.0) + a * (CHUNK.min(ctx_len) as f64 + 1.0)
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        if self.n_head == 0 || !config.dim_att.is_multiple_of(self.n_head) {
            let expected = format!("a number of heads that divides dim_att, {}", config.dim_att);
            return Err(Error::config("n_head", expected, self.n_head));
        }
        Ok(())
    }
}

/// Tokens whose products with each other exist at the same time.
const CHUNK: usize = 64;

/// Far below every weight, and above what a GPU takes for zero: where all weights are zero the output is, too.
const NEVER_ZERO: f64 = 1e-30;

/// Causal linear attention: the softmax's exponential of a product is replaced by a product of features, so that the sum over
/// the past needs only its state.
///
/// ```text
/// q, k, v = W_q·x, W_k·x, W_v·x                       in heads of D = A/H channels
/// S_t = S_{t−1} + φ(k_t)·v_tᵀ      s_t = s_{t−1} + φ(k_t)      φ(x) = elu(x) + 1
/// out_t = W_o·(φ(q_t)ᵀ·S_t / φ(q_t)ᵀ·s_t)
/// ```
///
/// Over a sequence, chunks of 64 tokens are products with each other, masked, plus what the state before them gives. The memory
/// is `S` and `s` of all heads, `[A, D + 1]`; arithmetic on it is `f32`. It knows nothing of positions but what came before.
///
/// # Source
/// Katharopoulos et al., Transformers are RNNs (arXiv 2006.16236), eq. 7 and 16–20.
#[derive(Module, Debug)]
pub struct LinearAttention<B: Backend> {
    /// `W_q`, from `C` to `A`.
    pub query: Projection<B>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    #[module(skip)]
    n_head: usize,
}

impl<B: Backend> Mixer<B> for LinearAttention<B> {
    type Settings = LinearAttentionSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: LinearAttentionSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        Self {
            query: matrix("query", c, a),
            key: matrix("key", c, a),
            value: matrix("value", c, a),
            output: matrix("output", a, c),
            n_head: settings.n_head,
        }
    }

    fn settings(&self) -> LinearAttentionSettings {
        LinearAttentionSettings { n_head: self.n_head }
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { query, key, value, output, .. } = self;
        vec![("query", query), ("key", key), ("value", value), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for LinearAttention<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let [batch, time, _] = x.dims();
        let [_, channels, columns] = memory.dims();
        let size = columns - 1;
        let heads = |x: Tensor<B, 3>| x.cast(inside).reshape([batch, time, self.n_head, size]).swap_dims(1, 2);
        let q = features(heads(at("query", self.query.forward(x.clone())))); // [B, H, T, D]
        let k = features(heads(at("key", self.key.forward(x.clone()))));
        let v = heads(at("value", self.value.forward(x.clone())));
        // With a column of ones beside the values, the sum of the weights is one more column of everything.
        let ones = Tensor::ones([batch, self.n_head, time, 1], (&v.device(), inside));
        let v = Tensor::cat(vec![v, ones], 3);

        let mut state = memory.reshape([batch, self.n_head, size, columns]);
        let mut sums = Vec::new();
        for start in (0..time).step_by(CHUNK) {
            let length = CHUNK.min(time - start);
            let chunk = |x: &Tensor<B, 4>| x.clone().narrow(2, start, length);
            let (q, k, v) = (chunk(&q), chunk(&k), chunk(&v));
            let weights = q.clone().matmul(k.clone().swap_dims(2, 3)).tril(0);
            sums.push(q.matmul(state.clone()) + weights.matmul(v.clone()));
            state = state + k.swap_dims(2, 3).matmul(v);
        }
        let sums = Tensor::cat(sums, 2); // [B, H, T, D + 1]
        let y = divided(sums.clone().narrow(3, 0, size), sums.narrow(3, size, 1).add_scalar(NEVER_ZERO));
        let y = at("attention", y.swap_dims(1, 2).reshape([batch, time, channels]).cast(dtype));
        let y = at("output", self.output.forward(y));
        (y, last_token(x), state.reshape([batch, channels, columns]))
    }
}

/// `elu(x) + 1`: `x + 1` above zero, `eˣ` below, without the 1 in which small ones would be lost.
fn features<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    relu(x.clone()) + relu(x.neg()).neg().exp()
}
