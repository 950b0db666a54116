//! AFT-conv: an average of all values so far, weighted by their keys and by a learned bias of their distance.

use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::positions::at_least_one;
use super::{aft, mixer};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use crate::ops::wkv::EMPTY_EXPONENT;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`AftConv`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AftConvSettings {
    /// Heads; each has biases of its own for `dim_att/n_head` channels.
    pub n_head: usize,
    /// Tokens on which biases act, the current one among them.
    pub window: usize,
}

impl Default for AftConvSettings {
    fn default() -> Self {
        Self { n_head: 4, window: 32 }
    }
}

impl MixerSettings for AftConvSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let biases = Parameter::new("position", [1, self.n_head, self.window], Rule::Zeros);
        aft::parameters(config).into_iter().chain([biases]).collect()
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        let keys = std::iter::repeat_n(EMPTY_EXPONENT, self.window);
        let values = std::iter::repeat_n(0.0, self.window);
        let Memory { rows, .. } = Memory::wkv(config.dim_att);
        Memory { rows: rows.into_iter().chain(keys).chain(values).collect(), ..Memory::wkv(config.dim_att) }
    }

    fn multiply_adds(&self, config: &RwkvConfig, _ctx_len: usize) -> f64 {
        mixer::projections(&self.parameters(config)) + 2.0 * (config.dim_att * self.window) as f64
    }

    fn validate(&self, config: &RwkvConfig) -> Result<()> {
        let Self { n_head, window } = *self;
        if n_head == 0 || !config.dim_att.is_multiple_of(n_head) {
            let expected = format!("a number of heads that divides dim_att, {}", config.dim_att);
            return Err(Error::config("n_head", expected, n_head));
        }
        at_least_one("window", window)
    }
}

/// Tokens that are mixed at a time; longer texts go piece by piece, so that time and memory grow no faster than the text.
const PIECE: usize = 128;

/// The Attention Free Transformer with biases of distances.
///
/// ```text
/// q, k, v = W_q·x, W_k·x, W_v·x
/// out_t = W_o·(σ(q_t) ⊙ Σ_{s ≤ t} e^{k_s + w_{t−s}} ⊙ v_s / Σ_{s ≤ t} e^{k_s + w_{t−s}})
/// w_d is learned for each head where d < window, else 0
/// ```
///
/// It depends on distances alone, so that it runs over texts of any length in a memory of fixed size, `[B, 3 + 2·window, A]`: the
/// sums of all tokens that left the window, as [`wkv`](crate::ops::wkv::wkv) keeps them, and the keys and values of those in
/// it. Arithmetic inside is `f32`; keys of a channel may be 140 apart.
///
/// # Source
/// Zhai et al., An Attention Free Transformer (arXiv 2105.14103), eq. 5, in its causal form. The paper reparameterises `w` by its mean
/// and deviation over the window; here `w` is the parameter itself, and starts at 0, as AFT-simple.
#[derive(Module, Debug)]
pub struct AftConv<B: Backend> {
    /// `W_q`, from `C` to `A`.
    pub query: Projection<B>,
    /// `W_k`, from `C` to `A`.
    pub key: Projection<B>,
    /// `W_v`, from `C` to `A`.
    pub value: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    /// `w`, `[1, H, window]`, by distance.
    pub position: Param<Tensor<B, 3>>,
}

impl<B: Backend> Mixer<B> for AftConv<B> {
    type Settings = AftConvSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: AftConvSettings) -> Self {
        let [query, key, value, output] = aft::projections(init, name);
        let position = init.tensor(&format!("{name}.position"), [1, settings.n_head, settings.window]);
        Self { query, key, value, output, position }
    }

    fn settings(&self) -> AftConvSettings {
        let [_, n_head, window] = self.position.lazy_shape().dims();
        AftConvSettings { n_head, window }
    }

    fn size(&self) -> usize {
        self.key.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { query, key, value, output, .. } = self;
        vec![("query", query), ("key", key), ("value", value), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for AftConv<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        mut memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (k, v) = aft::keys_and_values((&self.key, &self.value), &x, &mut *at);
        let time = k.dims()[1];
        let mut pieces = Vec::new();
        for start in (0..time).step_by(PIECE) {
            let piece = |x: &Tensor<B, 3>| x.clone().narrow(1, start, PIECE.min(time - start));
            let (y, after) = self.mix(piece(&k), piece(&v), memory);
            pieces.push(y);
            memory = after;
        }
        let y = aft::gated_output((&self.query, &self.output), &x, Tensor::cat(pieces, 1), at);
        (y, last_token(x), memory)
    }
}

impl<B: RwkvBackend> AftConv<B> {
    /// The averages of one piece, `[B, T, A]`, and the memory after it.
    fn mix(&self, k: Tensor<B, 3>, v: Tensor<B, 3>, memory: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let [batch, time, channels] = k.dims();
        let [_, n_head, window] = self.position.lazy_shape().dims();
        let row = |first: usize, count: usize| memory.clone().narrow(1, first, count);
        let (sums, exponent) = (row(0, 2), row(2, 1)); // (a, b), [B, 2, A], and p, [B, 1, A]
        let k = Tensor::cat(vec![row(3, window), k], 1); // [B, window + T, A]
        let v = Tensor::cat(vec![row(3 + window, window), v], 1);
        let slots = window + time;
        let empty = k.clone().lower_elem(0.5 * f64::from(EMPTY_EXPONENT));

        let largest = k.clone().detach().max_dim(1).max_pair(exponent.clone().detach());
        // A sum that is empty is 0, whatever it is multiplied with.
        let gone = sums.clone() * aft::shifted_exp(exponent.clone(), largest.clone());
        let weighed = aft::weighed(k.clone(), v.clone(), largest).mask_fill(empty.clone().repeat_dim(2, 2), 0.0);
        let heads = |x: Tensor<B, 3>, count: usize| {
            x.reshape([batch, count, 2, n_head, channels / n_head]).permute([0, 3, 1, 2, 4]).reshape([
                batch,
                n_head,
                count,
                2 * channels / n_head,
            ])
        };
        let (near, far) = self.weights(time);
        let gone = heads(gone.reshape([batch, 1, 2 * channels]), 1);
        let y = aft::quotient(near.matmul(heads(weighed, slots)) + far * gone); // [B, H, T, A/H]
        let y = y.swap_dims(1, 2).reshape([batch, time, channels]);

        // The first T slots leave the window.
        let (leaving, empty) = (k.clone().narrow(1, 0, time), empty.narrow(1, 0, time));
        let after = exponent.clone().detach().max_pair(leaving.clone().detach().max_dim(1));
        let leaving = (leaving - after.clone()).exp().mask_fill(empty, 0.0);
        let values = (leaving.clone() * v.clone().narrow(1, 0, time)).sum_dim(1);
        let sums = sums * (exponent - after.clone()).exp() + Tensor::cat(vec![values, leaving.sum_dim(1)], 1);
        let stays = |x: Tensor<B, 3>| x.narrow(1, time, window);
        (y, Tensor::cat(vec![sums, after, stays(k), stays(v)], 1))
    }

    /// `e^w` for every token of a piece and every slot, `[1, H, T, window + T]`, and for what left the window, `[1, H, 1, 1]`: both
    /// up to a factor of each head.
    ///
    /// Slot `s` is `window + t − s` tokens before token `t`.
    fn weights(&self, time: usize) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let w = self.position.val();
        let [_, n_head, window] = w.dims();
        let largest = w.clone().detach().max_dim(2).clamp_min(0.0); // [1, H, 1]
        let near = (w - largest.clone()).exp();
        let far = largest.neg().exp();
        // By `t − s`: from 0 on what left the window, and from the end, at negative numbers, the window and what is yet to come.
        let to_come = (time > 1).then(|| Tensor::zeros([1, n_head, time - 1], (&near.device(), near.dtype())));
        let around = [far.clone().repeat_dim(2, time)].into_iter().chain(to_come).chain([near]).collect();
        let around = Tensor::cat(around, 2); // [1, H, P], P = window + 2T − 1
        // One row of P numbers after the other, cut into rows of P − 1: each starts one number further back. (Not by
        // `repeat_dim`: its gradient in Burn 0.21 is that of a tensor whose entries repeat one by one.)
        let (slots, period) = (window + time, window + 2 * time - 1);
        let rows = around.unsqueeze_dim::<4>(2).expand([1, n_head, slots, period]).reshape([1, n_head, slots * period]);
        let rows = rows.narrow(2, 0, slots * (period - 1)).reshape([1, n_head, slots, period - 1]);
        (rows.narrow(3, 0, time).swap_dims(2, 3), far.unsqueeze_dim(3))
    }
}
