//! The tiny attention of RWKV-4b.

use super::ablated_shift::{TokenShift, shifted};
use super::cache;
use super::mixer::Parameter;
use crate::config::RwkvConfig;
use crate::model::init::{Initializer, Rule};
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;

/// Attention with one small head beside WKV. The parameters have the official names, after `att.tiny.`.
///
/// ```text
/// W_oo·Σ_{s ≤ t} softmax_s(q_t·k_s/√d)·v_s        q = W_qq·shift(x, μ_qq), and so on
/// ```
///
/// # Source
/// Reference §9 (8), RWKV-4b: `d = C/16`, `oo` starts as zeros, the others orthogonal.
#[derive(Module, Debug)]
pub struct TinyAttention<B: Backend> {
    /// Share of the current token in the query path.
    pub time_mix_qq: Option<Param<Tensor<B, 3>>>,
    /// Share of the current token in the key path.
    pub time_mix_kk: Option<Param<Tensor<B, 3>>>,
    /// Share of the current token in the value path.
    pub time_mix_vv: Option<Param<Tensor<B, 3>>>,
    /// From `C` to `d`.
    pub qq: Projection<B>,
    /// From `C` to `d`.
    pub kk: Projection<B>,
    /// From `C` to `d`.
    pub vv: Projection<B>,
    /// From `d` to `C`.
    pub oo: Projection<B>,
}

/// Its parameters; none when it has no channels.
pub(super) fn parameters(size: usize, shift: TokenShift, config: &RwkvConfig) -> Vec<Parameter> {
    if size == 0 {
        return Vec::new();
    }
    let c = config.n_embd;
    // The mixes start as those of RWKV-4's keys and values.
    let mix = |name| shift.parameter(name, config);
    let mixes = ["tiny.time_mix_qq", "tiny.time_mix_kk", "tiny.time_mix_vv"].into_iter().filter_map(mix);
    let read = ["tiny.qq.weight", "tiny.kk.weight", "tiny.vv.weight"]
        .map(|name| Parameter::new(name, [size, c], Rule::Orthogonal { gain: 1.0 }));
    mixes.chain(read).chain([Parameter::new("tiny.oo.weight", [c, size], Rule::Zeros)]).collect()
}

impl<B: Backend> TinyAttention<B> {
    pub(super) fn new(init: &Initializer<'_, B>, mixer: &str, size: usize, shift: TokenShift) -> Self {
        let c = init.config.n_embd;
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{mixer}.tiny.{part}"), inputs, out);
        Self {
            time_mix_qq: shift.mu(init, mixer, "tiny.time_mix_qq"),
            time_mix_kk: shift.mu(init, mixer, "tiny.time_mix_kk"),
            time_mix_vv: shift.mu(init, mixer, "tiny.time_mix_vv"),
            qq: matrix("qq", c, size),
            kk: matrix("kk", c, size),
            vv: matrix("vv", c, size),
            oo: matrix("oo", size, c),
        }
    }

    pub(super) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { qq, kk, vv, oo, .. } = self;
        vec![("tiny.qq", qq), ("tiny.kk", kk), ("tiny.vv", vv), ("tiny.oo", oo)]
    }
}

impl<B: RwkvBackend> TinyAttention<B> {
    /// What it adds, `[B, T, C]`, and its cache with the new tokens.
    pub(super) fn forward(
        &self,
        x: &Tensor<B, 3>,
        last: &Tensor<B, 2>,
        slots: Tensor<B, 3>,
        shift: TokenShift,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), slots.dtype());
        let mu = [&self.time_mix_qq, &self.time_mix_kk, &self.time_mix_vv];
        let [x_q, x_k, x_v] = shifted(mu, shift, x, last);
        let [q, k, v] =
            [(&self.qq, x_q), (&self.kk, x_k), (&self.vv, x_v)].map(|(matrix, x)| matrix.forward(x).cast(inside));
        let size = q.dims()[2];
        let positions = cache::next_positions(&slots, x.dims()[1]);
        let slots = cache::append(slots, vec![k, v], positions.clone());
        let ([keys, values], at) = cache::slots(&slots, [size, size]);
        let scores = q.matmul(keys.swap_dims(1, 2)).mul_scalar((size as f64).powf(-0.5)); // [B, T, S]
        let scores = scores.mask_fill(cache::hidden(&positions, &at), f32::NEG_INFINITY);
        let y = softmax(scores, 2).matmul(values).cast(dtype);
        (self.oo.forward(y), slots)
    }
}
