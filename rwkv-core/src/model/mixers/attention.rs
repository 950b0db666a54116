//! Causal attention with rotary positions, as in GPT-NeoX and Pythia.

use super::cache;
use super::kinds::{small_init, wang_init};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter, projections};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::module::{attention, attention_fallback};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Settings of [`Attention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionSettings {
    /// Heads; each has `dim_att/n_head` channels.
    pub n_head: usize,
}

impl Default for AttentionSettings {
    fn default() -> Self {
        Self { n_head: 4 }
    }
}

impl MixerSettings for AttentionSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        let read =
            ["query.weight", "key.weight", "value.weight"].map(|name| Parameter::new(name, [a, c], small_init(config)));
        let bias = |name, size| Parameter::new(name, [size], Rule::Zeros);
        let biases = [bias("query_bias", a), bias("key_bias", a), bias("value_bias", a), bias("output_bias", c)];
        let written = [Parameter::new("output.weight", [c, a], wang_init(config))];
        read.into_iter().chain(written).chain(biases).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        cache::empty(2 * config.dim_att)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        // Of queries with keys, and weights with values: on average half of the context each.
        projections(&self.parameters(config)) + config.dim_att as f64 * (ctx_len as f64 + 1.0)
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        let Self { n_head } = *self;
        if n_head == 0 || n_head > config.dim_att || !config.dim_att.is_multiple_of(2 * n_head) {
            let expected = format!("a number of heads that divides dim_att, {}, into even parts", config.dim_att);
            return Err(Error::config("n_head", expected, n_head));
        }
        Ok(())
    }
}

/// The base of the rotary frequencies.
const ROTARY_BASE: f64 = 10_000.0;

/// Causal multi-head attention.
///
/// ```text
/// q, k, v = W_q·x + b_q, W_k·x + b_k, W_v·x + b_v        in heads of D = A/H channels
/// out_t = W_o·Σ_{s ≤ t} softmax_s(rot_t(q_t)·rot_s(k_s)/√D)·v_s + b_o
/// ```
///
/// A quarter of each head's channels is rotated by the position: pairs `(i, i + R/2)` of the first `R = D/4` by the angle
/// `t·10000^(−2i/R)`. Arithmetic inside is `f32`.
///
/// The memory is the cache of rotated keys and values: it grows by `4·(2A + 1)` bytes a token, layer and sequence, where
/// RWKV's stays as it is.
///
/// # Source
/// Black et al., GPT-NeoX-20B (arXiv 2204.06745) §2; Biderman et al., Pythia (arXiv 2304.01373); Su et al., rotary
/// positions (arXiv 2104.09864) §3.4.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `W_q`, from `C` to `A`.
    pub query: Projection<B>,
    /// `b_q`, `[A]`.
    pub query_bias: Param<Tensor<B, 1>>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `b_k`, `[A]`.
    pub key_bias: Param<Tensor<B, 1>>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `b_v`, `[A]`.
    pub value_bias: Param<Tensor<B, 1>>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    /// `b_o`, `[C]`.
    pub output_bias: Param<Tensor<B, 1>>,
    #[module(skip)]
    n_head: usize,
}

impl<B: Backend> Mixer<B> for Attention<B> {
    type Settings = AttentionSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: AttentionSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        let bias = |part: &str, size| init.tensor(&format!("{name}.{part}"), [size]);
        Self {
            query: matrix("query", c, a),
            query_bias: bias("query_bias", a),
            key: matrix("key", c, a),
            key_bias: bias("key_bias", a),
            value: matrix("value", c, a),
            value_bias: bias("value_bias", a),
            output: matrix("output", a, c),
            output_bias: bias("output_bias", c),
            n_head: settings.n_head,
        }
    }

    fn settings(&self) -> AttentionSettings {
        AttentionSettings { n_head: self.n_head }
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { query, key, value, output, .. } = self;
        vec![("query", query), ("key", key), ("value", value), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for Attention<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.attend(x, memory, None, at)
    }

    fn forward_restarting(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        restarts: LayerRestarts<'_, B>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        self.attend(x, memory, Some(restarts), at)
    }
}

impl<B: RwkvBackend> Attention<B> {
    fn attend(
        &self,
        x: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let dtype = x.dtype();
        let [batch, time, _] = x.dims();
        let q = at("query", biased(&self.query, &self.query_bias, x.clone()));
        let k = at("key", biased(&self.key, &self.key_bias, x.clone()));
        let v = at("value", biased(&self.value, &self.value_bias, x.clone()));
        let inside = memory.dtype();
        let [_, slots, size] = memory.dims();
        let channels = size / 2;

        let positions = cache::next_positions(&memory, time); // [B, T, 1]
        let rotary = Rotary::new(positions.clone(), channels / self.n_head);
        let q = rotary.rotate(self.heads(q.cast(inside))); // [B, H, T, D]
        let k = rotary.rotate(self.heads(k.cast(inside)));
        let v = v.cast(inside);

        let memory = cache::append(memory, vec![joined(k.clone()), v.clone()], positions); // [B, slots + T, 2A + 1]
        let options = AttentionModuleOptions { is_causal: true, ..AttentionModuleOptions::default() };
        let mut after = memory.clone();
        let y = if slots == 1 && restarts.is_none() {
            // Nothing came before, so no slot is empty and none is of another text.
            attention(q, k, self.heads(v), None, None, options)
        } else {
            let ([keys, values], positions) = cache::slots(&memory, [channels, channels]);
            let (keys, values) = (self.heads(keys), self.heads(values));
            let hidden = hidden(positions, time, restarts.as_ref());
            if restarts.is_some() {
                // What the last token must not look at, no later one may.
                let gone = hidden.clone().narrow(2, time - 1, 1).swap_dims(2, 3).reshape([batch, slots - 1 + time, 1]);
                let first = Tensor::<B, 3>::zeros([batch, 1, 1], (&memory.device(), inside));
                let gone = Tensor::cat(vec![first, gone.float().cast(inside)], 1);
                let positions = memory.clone().narrow(2, 2 * channels, 1) * (gone.neg() + 1.0);
                after = Tensor::cat(vec![memory.narrow(2, 0, 2 * channels), positions], 2);
            }
            let everywhere = |x: Tensor<B, 4, Bool>| x.expand([batch, self.n_head, time, slots - 1 + time]);
            // On GPUs Burn 0.21 may take fused kernels whose causal mask does not know of slots before the queries.
            match (B::IN_MAIN_MEMORY, time) {
                (true, _) => attention(q, keys, values, Some(everywhere(hidden)), None, options),
                (false, 1) => attend_once(q, keys, values, hidden),
                (false, _) => attention_fallback(q, keys, values, Some(everywhere(hidden)), None, options),
            }
        };
        let y = at("attention", joined(y).cast(dtype));
        let y = at("output", biased(&self.output, &self.output_bias, y));
        (y, last_token(x), after)
    }

    /// `[B, S, A]` to `[B, H, S, D]`.
    fn heads(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, slots, channels] = x.dims();
        x.reshape([batch, slots, self.n_head, channels / self.n_head]).swap_dims(1, 2)
    }
}

/// Attention of one query in each head, without matrix products. On GPUs Burn 0.21 was seen to choose a kernel for products of a
/// vector and a matrix that then refuses the matrix for its layout.
///
/// # Shapes
/// - `q`: `[B, H, 1, D]`; `keys`, `values`: `[B, H, S, D]`; `hidden`: `[B, 1, 1, S]`
fn attend_once<B: Backend>(
    q: Tensor<B, 4>,
    keys: Tensor<B, 4>,
    values: Tensor<B, 4>,
    hidden: Tensor<B, 4, Bool>,
) -> Tensor<B, 4> {
    let [batch, heads, slots, size] = keys.dims();
    let scores = (q * keys).sum_dim(3).mul_scalar((size as f64).powf(-0.5)); // [B, H, S, 1]
    let hidden = hidden.swap_dims(2, 3).expand([batch, heads, slots, 1]);
    let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 2);
    (weights * values).sum_dim(2)
}

/// `[B, H, T, D]` to `[B, T, A]`.
fn joined<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, heads, time, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch, time, heads * size])
}

/// A projection with a bias: `W·x + b`.
pub(super) fn biased<B: RwkvBackend>(
    matrix: &Projection<B>,
    bias: &Param<Tensor<B, 1>>,
    x: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let y = matrix.forward(x);
    let bias = bias.val().unsqueeze().cast(y.dtype());
    y + bias
}

/// What a query must not look at beside the future, `[B, 1, T, S]`: empty slots, and other texts of its row.
///
/// `positions` are those of the slots, `[B, S]`, the last `T` of which are the queries' own.
fn hidden<B: RwkvBackend>(
    positions: Tensor<B, 2>,
    time: usize,
    restarts: Option<&LayerRestarts<'_, B>>,
) -> Tensor<B, 4, Bool> {
    let [batch, slots] = positions.dims();
    let positions = positions.reshape([batch, 1, 1, slots]);
    let empty = positions.equal_elem(0.0).expand([batch, 1, time, slots]);
    let Some(restarts) = restarts else { return empty };
    let own = restarts.texts(time); // [B, T], 0 for the text that goes on from the memory
    let device = own.device();
    let all = match slots - time {
        0 => own.clone(),
        cached => Tensor::cat(vec![Tensor::zeros([batch, cached], (&device, own.dtype())), own.clone()], 1),
    };
    let (own, all) = (own.reshape([batch, 1, time, 1]), all.reshape([batch, 1, 1, slots]));
    let other = own.expand([batch, 1, time, slots]).not_equal(all.expand([batch, 1, time, slots]));
    other.bool_or(empty)
}

/// The rotation of a stretch of positions.
struct Rotary<B: Backend> {
    cos: Tensor<B, 4>, // [B, 1, T, R/2]
    sin: Tensor<B, 4>,
}

impl<B: Backend> Rotary<B> {
    /// For positions `[B, T, 1]`, counted from 1, and heads of this size.
    fn new(positions: Tensor<B, 3>, head_size: usize) -> Self {
        let half = (head_size / 8).max(1);
        let frequency = |i: usize| ROTARY_BASE.powf(-(i as f64) / half as f64) as f32;
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let device = positions.device();
        let frequencies = Tensor::from_data(TensorData::new(frequencies, [1, 1, half]), (&device, positions.dtype()));
        let angles = (positions - 1.0) * frequencies; // [B, T, R/2]
        let angles = angles.unsqueeze_dim::<4>(1);
        Self { cos: angles.clone().cos(), sin: angles.sin() }
    }

    /// Rotates the first channels of every head, `[B, H, T, D]`.
    fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [.., size] = x.dims();
        let [.., half] = self.cos.dims();
        let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
        let turned = vec![
            first.clone() * self.cos.clone() - second.clone() * self.sin.clone(),
            second * self.cos.clone() + first * self.sin.clone(),
        ];
        let rest = (size > 2 * half).then(|| x.narrow(3, 2 * half, size - 2 * half));
        Tensor::cat(turned.into_iter().chain(rest).collect(), 3)
    }
}
