//! What the four Attention Free Transformers have in common: projections, and averages of values by exponentials of keys.

use super::division::divided;
use super::mixer::{At, Parameter};
use crate::config::RwkvConfig;
use crate::model::init::{Initializer, Rule};
use crate::model::projection::Projection;
use crate::ops::{RwkvBackend, gate::gate, inner_dtype};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

/// How far a shifted key may be from 0. Its exponential, and what that is multiplied with or divided by, stays within `f32`.
const REACH: f64 = 70.0;

/// The four projections, which start as RWKV-4's do, `query` as its receptance.
pub(super) fn parameters(config: &RwkvConfig) -> Vec<Parameter> {
    let (c, a) = (config.n_embd, config.dim_att);
    vec![
        Parameter::new("query.weight", [a, c], Rule::Zeros),
        Parameter::new("key.weight", [a, c], Rule::Zeros),
        Parameter::new("value.weight", [a, c], Rule::Orthogonal { gain: 1.0 }),
        Parameter::new("output.weight", [c, a], Rule::Zeros),
    ]
}

/// `query`, `key`, `value` and `output`.
pub(super) fn projections<B: Backend>(init: &Initializer<'_, B>, name: &str) -> [Projection<B>; 4] {
    let (c, a) = (init.config.n_embd, init.config.dim_att);
    let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
    [matrix("query", c, a), matrix("key", c, a), matrix("value", c, a), matrix("output", a, c)]
}

/// Keys and values in the dtype of the arithmetic, each `[B, T, A]`.
pub(super) fn keys_and_values<B: RwkvBackend>(
    (key, value): (&Projection<B>, &Projection<B>),
    x: &Tensor<B, 3>,
    at: At<'_, B>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let inside = inner_dtype(x.dtype());
    let k = at("key", key.forward(x.clone())).cast(inside);
    let v = at("value", value.forward(x.clone())).cast(inside);
    (k, v)
}

/// `W_o·(σ(W_q·x) ⊙ y)`.
pub(super) fn gated_output<B: RwkvBackend>(
    (query, output): (&Projection<B>, &Projection<B>),
    x: &Tensor<B, 3>,
    y: Tensor<B, 3>,
    at: At<'_, B>,
) -> Tensor<B, 3> {
    let q = at("query", query.forward(x.clone()));
    let y = at("average", y.cast(q.dtype()));
    at("output", output.forward(gate(q, y)))
}

/// `[x ⊙ v | x]` with `x = e^k` up to a factor of each row and channel: `k` and `v` are `[B, S, A]`, the result `[B, S, 2A]`.
///
/// The factor is that of the largest key, so that nothing overflows. Keys more than 140 below it count as 140 below: a sum
/// without the largest is then still above 0, and its gradient finite.
pub(super) fn weighed<B: Backend>(k: Tensor<B, 3>, v: Tensor<B, 3>, largest: Tensor<B, 3>) -> Tensor<B, 3> {
    let x = shifted_exp(k, largest);
    Tensor::cat(vec![x.clone() * v, x], 2)
}

/// `e^(k − largest + 70)`, from `e^−70` on.
pub(super) fn shifted_exp<B: Backend>(k: Tensor<B, 3>, largest: Tensor<B, 3>) -> Tensor<B, 3> {
    (k - largest.sub_scalar(REACH)).clamp_min(-REACH).exp()
}

/// The first half of the last dimension, sums of weighted values, over the second half, sums of weights.
pub(super) fn quotient<B: Backend, const D: usize>(sums: Tensor<B, D>) -> Tensor<B, D> {
    let half = sums.dims()[D - 1] / 2;
    let (above, below) = (sums.clone().narrow(D - 1, 0, half), sums.narrow(D - 1, half, half));
    // The gradient of a quotient has the square of what is below, which must not vanish.
    let scale = below.clone().detach().recip();
    divided(above * scale.clone(), below * scale)
}

/// `Σ_s e^(w_ts + k_s) ⊙ v_s / Σ_s e^(w_ts + k_s)` over what is not hidden.
///
/// # Shapes
/// - `w`, `hidden`: `[R, T, S]`, where `R` is 1 or `B`
/// - `k`, `v`: `[B, S, A]`
/// - returns `[B, T, A]`
pub(super) fn average<B: Backend>(
    w: Tensor<B, 3>,
    hidden: Tensor<B, 3, Bool>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
) -> Tensor<B, 3> {
    // A large finite number: the gradient at −∞ would be NaN.
    let w = w.mask_fill(hidden, -1e30);
    let weights = (w.clone() - w.detach().max_dim(2)).exp();
    let largest = k.clone().detach().max_dim(1);
    quotient(weights.matmul(weighed(k, v, largest)))
}
