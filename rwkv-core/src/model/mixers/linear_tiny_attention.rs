//! The tiny attention of RWKV-4a.

use super::mixer::Memory;
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::{layer_norm, normalise};
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Tokens that are taken as products with each other; the state stands for all before them.
const CHUNK: usize = 64;

/// Where a model has the [`LinearTinyAttention`] of RWKV-4a, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TinyAttentionSettings {
    /// Channels of queries and keys, `d`; officially 256 at a width of 768 and 512 at 1024.
    pub size: usize,
    /// The block after which it stands, from 0; officially 9 of 12 and 18 of 24.
    pub layer: usize,
}

impl TinyAttentionSettings {
    /// Its parameters by their names in the block; matrices `[out, in]`.
    pub(crate) fn parameters(&self, config: &RwkvConfig) -> Vec<(String, Vec<usize>)> {
        let c = config.n_embd;
        let norm = ["ln.weight", "ln.bias"].map(|name| (name, vec![c]));
        let matrices = [("q.weight", vec![self.size, c]), ("k.weight", vec![self.size, c]), ("v.weight", vec![c, c])];
        norm.into_iter().chain(matrices).map(|(name, shape)| (format!("tiny.{name}"), shape)).collect()
    }

    /// How many numbers its parameters are.
    pub(crate) fn num_params(&self, config: &RwkvConfig) -> usize {
        self.parameters(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Multiplications with additions for one token: those of the matrices, of adding to the state and of reading it.
    pub(crate) fn multiply_adds(&self, config: &RwkvConfig) -> f64 {
        let [c, d] = [config.n_embd, self.size].map(|size| size as f64);
        2.0 * d * c + c * c + 2.0 * d * c
    }

    /// Checks that a model of these sizes, whose blocks remember `memory`, can have it.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(crate) fn validate(&self, config: &RwkvConfig, memory: &Memory) -> Result<()> {
        if self.size == 0 {
            return Err(Error::config("mixers.tiny_attention.size", "a positive number", 0));
        }
        if self.layer >= config.n_layer {
            let expected = format!("a layer below n_layer = {}", config.n_layer);
            return Err(Error::config("mixers.tiny_attention.layer", expected, self.layer));
        }
        // Its state lies below the sequence mixer's, in rows of the model's width.
        if memory.grows || memory.columns != config.n_embd {
            let expected = "a sequence mixer whose memory has a fixed size and the model's width, as RWKV-4's with \
                            dim_att = n_embd";
            return Err(Error::config("mixers.tiny_attention", expected, "another"));
        }
        Ok(())
    }
}

/// How its parameter of this name starts.
pub(super) fn rule(local: &[&str]) -> Option<Rule> {
    match local {
        ["ln", "weight"] => Some(Rule::Ones),
        ["ln", "bias"] => Some(Rule::Zeros),
        ["q" | "k" | "v", "weight"] => Some(Rule::Orthogonal { gain: 1.0 }),
        _ => None,
    }
}

/// Attention after one block that carries the embeddings of earlier tokens, as they were before `ln0`, into the stream.
///
/// ```text
/// x_t ← x_t + d^(−1/2)·Σ_{s ≤ t} (q_t·k_s)·v_s       q = W_q·ln(x)   k = W_k·ln(x)   v = W_v·emb
/// ```
///
/// There is no softmax, so the sum over the past needs only `S = Σ k_s·v_sᵀ`, of `d` rows of `C`: the model stays an RNN of
/// constant memory. Over a sequence, chunks of 64 tokens are products with each other, masked, plus what `S` before them
/// gives. Arithmetic on `S` is `f32`. The official names are `tiny_ln`, `tiny_q`, `tiny_k` and `tiny_v`; here they are fields of
/// `tiny`. The official code masks a table of `ctx_len²` scores; the result is the same.
///
/// # Source
/// Reference §9 (8), RWKV-4a.
#[derive(Module, Debug)]
pub struct LinearTinyAttention<B: Backend> {
    /// Normalises the stream for queries and keys.
    pub ln: LayerNorm<B>,
    /// `W_q`, from `C` to `d`.
    pub q: Projection<B>,
    /// `W_k`, from `C` to `d`.
    pub k: Projection<B>,
    /// `W_v`, from `C` to `C`.
    pub v: Projection<B>,
}

impl<B: Backend> LinearTinyAttention<B> {
    pub(in crate::model) fn new(init: &Initializer<'_, B>, name: &str, size: usize) -> Self {
        let c = init.config.n_embd;
        let matrix = |part: &str, out| Projection::new(init, &format!("{name}.{part}"), c, out);
        Self {
            ln: layer_norm(init, &format!("{name}.ln")),
            q: matrix("q", size),
            k: matrix("k", size),
            v: matrix("v", c),
        }
    }

    /// Channels of queries and keys, `d`.
    #[must_use]
    pub fn size(&self) -> usize {
        self.q.shape()[1]
    }

    pub(in crate::model) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { q, k, v, .. } = self;
        vec![("q", q), ("k", k), ("v", v)]
    }
}

impl<B: RwkvBackend> LinearTinyAttention<B> {
    /// What it adds to the stream.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, the stream after the block
    /// - `emb`: `[B, T, C]`, the embeddings of the same tokens, before `ln0`
    /// - `state`: `[B, d, C]`, `S` before `x`
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]` and the new `S`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        emb: Tensor<B, 3>,
        state: Tensor<B, 3>,
        restarts: Option<LayerRestarts<'_, B>>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), state.dtype());
        let x = normalise(&self.ln, x);
        let scale = (self.size() as f64).powf(-0.5);
        let q = self.q.forward(x.clone()).cast(inside).mul_scalar(scale);
        let k = self.k.forward(x).cast(inside);
        let v = self.v.forward(emb).cast(inside);
        let (y, state) = match restarts {
            None => attend(q, k, v, state),
            Some(restarts) => restarts.sums_in_pieces(q, k, v, state, attend),
        };
        (y.cast(dtype), state)
    }
}

/// `Σ_{s ≤ t} (q_t·k_s)·v_s` with what `state` holds of earlier tokens, and the new state.
fn attend<B: RwkvBackend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    mut state: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let time = q.dims()[1];
    let mut sums = Vec::new();
    for start in (0..time).step_by(CHUNK) {
        let length = CHUNK.min(time - start);
        let chunk = |x: &Tensor<B, 3>| x.clone().narrow(1, start, length);
        let (q, k, v) = (chunk(&q), chunk(&k), chunk(&v));
        let scores = q.clone().matmul(k.clone().swap_dims(1, 2)).tril(0); // [B, T, T]
        sums.push(q.matmul(state.clone()) + scores.matmul(v.clone()));
        state = state + k.swap_dims(1, 2).matmul(v);
    }
    (Tensor::cat(sums, 1), state)
}
