//! WKV for a backend without a kernel: the kernels' algorithm in plain tensor operations, with one part less (exponents
//! are single numbers, so that in `f32` they drift by rounding when keys are large; see [`super::derivation`]).

use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::{inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor};

/// Default body of [`RwkvBackend::wkv_forward`](crate::ops::RwkvBackend::wkv_forward).
#[must_use]
pub fn forward<B: Backend>(inputs: WkvInputs<B>, with_lse: bool) -> WkvForward<B> {
    let Steps { w, u, k, v, activations, mut a, mut b, mut p } = Steps::new(inputs);
    let mut outputs = Vec::with_capacity(k.len());
    let mut denominators = Vec::with_capacity(k.len());
    for (k, v) in k.into_iter().zip(v) {
        let current = u.clone() + k.clone();
        let q = p.clone().max_pair(current.clone());
        let past = (p.clone() - q.clone()).exp();
        let now = (current - q.clone()).exp();
        let denominator = past.clone() * b.clone() + now.clone();
        outputs.push((past * a.clone() + now * v.clone()) / denominator.clone());
        if with_lse {
            denominators.push(q + denominator.log());
        }

        let decayed = p + w.clone();
        let q = decayed.clone().max_pair(k.clone());
        let past = (decayed - q.clone()).exp();
        let now = (k - q.clone()).exp();
        a = past.clone() * a + now.clone() * v;
        b = past * b + now;
        p = q;
    }
    WkvForward {
        y: primitive(Tensor::stack::<3>(outputs, 1).cast(activations)),
        state: primitive(Tensor::stack::<3>(vec![a, b, p], 1)),
        lse: with_lse.then(|| primitive(Tensor::stack::<3>(denominators, 1))),
    }
}

/// Default body of [`RwkvBackend::wkv_backward`](crate::ops::RwkvBackend::wkv_backward): one sweep from the last token
/// to the first.
#[must_use]
pub fn backward<B: Backend>(saved: WkvSaved<B>, gy: FloatTensor<B>, adjoint: FloatTensor<B>) -> WkvGradients<B> {
    let WkvSaved { inputs, y, lse } = saved;
    let Steps { w, u, k, v, activations, a, b, p } = Steps::new(inputs);
    let dtype = p.dtype();
    let y = rows(y, dtype);
    let lse = rows(lse, dtype);
    let gy = rows(gy, dtype);
    let [mut ga, mut gb, mut m] = state_rows(adjoint);
    let (mut ha, mut hb) = (ga.zeros_like(), gb.zeros_like());
    let (mut gw, mut gu) = (ga.zeros_like(), ga.zeros_like());
    let (mut gk, mut gv) = (Vec::with_capacity(k.len()), Vec::with_capacity(k.len()));
    for t in (0..k.len()).rev() {
        let share = gy[t].clone() * (u.clone() + k[t].clone() - lse[t].clone()).exp();
        let direct = share.clone() * (v[t].clone() - y[t].clone());
        let carried = (k[t].clone() + m.clone()).exp();
        gw = gw + carried.clone() * (ha.clone() * v[t].clone() + hb.clone());
        gu = gu + direct.clone();
        gk.push(direct + carried.clone() * (ga.clone() * v[t].clone() + gb.clone()));
        gv.push(share + carried * ga.clone());

        let decayed = m + w.clone();
        let n = decayed.clone().max_pair(lse[t].clone().neg());
        let old = (decayed - n.clone()).exp();
        let new = gy[t].clone() * (lse[t].clone().neg() - n.clone()).exp();
        ha = old.clone() * (ga.clone() + ha);
        hb = old.clone() * (gb.clone() + hb);
        ga = old.clone() * ga + new.clone();
        gb = old * gb - new * y[t].clone();
        m = n;
    }
    gk.reverse();
    gv.reverse();
    let scale = (m + p).exp();
    let to_a = scale.clone() * ga;
    let to_b = scale.clone() * gb;
    let to_p = a.clone() * to_a.clone() + b.clone() * to_b.clone();
    gw = gw + scale * (a * ha + b * hb);
    WkvGradients {
        w: primitive(gw.sum_dim(0).squeeze_dim::<1>(0)),
        u: primitive(gu.sum_dim(0).squeeze_dim::<1>(0)),
        k: primitive(Tensor::stack::<3>(gk, 1).cast(activations)),
        v: primitive(Tensor::stack::<3>(gv, 1).cast(activations)),
        state: primitive(Tensor::stack::<3>(vec![to_a, to_b, to_p], 1)),
    }
}

/// The inputs, cut into tokens and in the state's dtype.
struct Steps<B: Backend> {
    w: Tensor<B, 2>,      // [1, C]
    u: Tensor<B, 2>,      // [1, C]
    k: Vec<Tensor<B, 2>>, // T × [B, C]
    v: Vec<Tensor<B, 2>>, // T × [B, C]
    a: Tensor<B, 2>,      // [B, C]
    b: Tensor<B, 2>,
    p: Tensor<B, 2>,
    activations: DType,
}

impl<B: Backend> Steps<B> {
    fn new(inputs: WkvInputs<B>) -> Self {
        let activations = tensor::<B, 3>(inputs.k.clone()).dtype();
        let dtype = inner_dtype(activations);
        let [a, b, p] = state_rows(inputs.state);
        Self {
            w: tensor::<B, 1>(inputs.w).unsqueeze(),
            u: tensor::<B, 1>(inputs.u).unsqueeze(),
            k: rows(inputs.k, dtype),
            v: rows(inputs.v, dtype),
            a,
            b,
            p,
            activations,
        }
    }
}

/// `[B, T, C]` as `T` tensors `[B, C]`.
fn rows<B: Backend>(sequence: FloatTensor<B>, dtype: DType) -> Vec<Tensor<B, 2>> {
    let sequence = tensor::<B, 3>(sequence).cast(dtype);
    let [batch, time, channels] = sequence.dims();
    (0..time).map(|t| sequence.clone().narrow(1, t, 1).reshape([batch, channels])).collect()
}

/// `[B, 3, C]` as its three rows `[B, C]`.
fn state_rows<B: Backend>(state: FloatTensor<B>) -> [Tensor<B, 2>; 3] {
    let state = tensor::<B, 3>(state);
    let [batch, _, channels] = state.dims();
    [0, 1, 2].map(|row| state.clone().narrow(1, row, 1).reshape([batch, channels]))
}
