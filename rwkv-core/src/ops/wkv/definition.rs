//! The WKV recurrence, one token at a time in plain tensor operations: what every kernel is tested against.

use super::check_shapes;
use crate::ops::inner_dtype;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// [`wkv`](super::wkv) by its definition, for tests and for reading.
///
/// Runs on any backend and is differentiated operation by operation, at a cost of some thirty tensor operations a token.
///
/// # Shapes
/// As [`wkv`](super::wkv).
///
/// # Panics
/// As [`wkv`](super::wkv).
///
/// # Source
/// Paper eq. 25–32, the numerically stable recurrence.
pub fn wkv<B: Backend>(
    time_decay: Tensor<B, 1>,
    time_first: Tensor<B, 1>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    state: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    check_shapes(&time_decay, &time_first, &k, &v, &state);
    let [batch, time, channels] = k.dims();
    let activations = k.dtype();
    let dtype = inner_dtype(activations);
    let row = |x: &Tensor<B, 3>, t: usize| x.clone().narrow(1, t, 1).reshape([batch, channels]).cast(dtype);

    let w = time_decay.cast(dtype).exp().neg().unsqueeze::<2>(); // [1, C]
    let u = time_first.cast(dtype).unsqueeze::<2>(); // [1, C]
    let (mut a, mut b, mut p) = (row(&state, 0), row(&state, 1), row(&state, 2));
    let mut outputs = Vec::with_capacity(time);
    for t in 0..time {
        let (k, v) = (row(&k, t), row(&v, t));

        let current = u.clone() + k.clone();
        let q = p.clone().max_pair(current.clone());
        let e1 = (p.clone() - q.clone()).exp();
        let e2 = (current - q).exp();
        let y = (e1.clone() * a.clone() + e2.clone() * v.clone()) / (e1 * b.clone() + e2);
        outputs.push(y.unsqueeze_dim::<3>(1));

        let decayed = p + w.clone();
        let q = decayed.clone().max_pair(k.clone());
        let e1 = (decayed - q.clone()).exp();
        let e2 = (k - q.clone()).exp();
        a = e1.clone() * a + e2.clone() * v;
        b = e1 * b + e2;
        p = q;
    }
    let state = Tensor::stack(vec![a, b, p], 1); // [B, 3, C]
    (Tensor::cat(outputs, 1).cast(activations), state)
}
