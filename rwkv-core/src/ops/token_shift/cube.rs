//! Token shift on CubeCL backends, up to three blends a launch.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | forward | 1 | `x`; the token before is in the cache | every output | 3 an output |
//! | backward | 2, of up to three `μ` | `x`, every `grad` | `∂x`, `∂last`, and each `∂μ` by groups of rows | 7 an output |

#![allow(clippy::manual_is_multiple_of)] // kernels do not know the method

use super::TokenShiftGradients;
use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::{ROWS_PER_GROUP, elements, empty, empty_like, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

/// Blends of one launch: as many as a time-mix has projections of its input.
const TOGETHER: usize = 3;

pub(in crate::ops) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    last: CubeTensor<R>,
    mu: Vec<CubeTensor<R>>,
) -> Vec<CubeTensor<R>> {
    let [x, last] = [x, last].map(into_contiguous);
    let mu: Vec<_> = mu.into_iter().map(into_contiguous).collect();
    mu.chunks(TOGETHER).flat_map(|mu| blends(&x, &last, mu)).collect()
}

fn blends<R: CubeRuntime>(x: &CubeTensor<R>, last: &CubeTensor<R>, mu: &[CubeTensor<R>]) -> Vec<CubeTensor<R>> {
    let [batch, time, width] = x.shape().dims();
    let outputs: Vec<_> = mu.iter().map(|_| empty_like(x)).collect();
    let size = vector_size(x, width);
    let (cubes, units) = elements(batch * time * width / size);
    let [mu_1, mu_2, mu_3] = padded(mu, || mu[0].clone()).map(CubeTensor::into_tensor_arg);
    let [out_1, out_2, out_3] = padded(&outputs, || unused(x, x.dtype)).map(CubeTensor::into_tensor_arg);
    let dtypes = [x.dtype.into(), last.dtype.into(), mu[0].dtype.into(), inner_dtype(x.dtype).into()];
    let [x, last] = [x, last].map(|tensor| tensor.clone().into_tensor_arg());
    blend::launch::<R>(
        &outputs[0].client,
        cubes,
        units,
        size,
        x,
        last,
        mu_1,
        mu_2,
        mu_3,
        out_1,
        out_2,
        out_3,
        time,
        mu.len(),
        dtypes,
    );
    outputs
}

pub(in crate::ops) fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: CubeTensor<R>,
    last: CubeTensor<R>,
    passed: Vec<(CubeTensor<R>, CubeTensor<R>)>,
) -> TokenShiftGradients<CubeBackend<R, F, I, BT>> {
    let [x, last] = [x, last].map(into_contiguous);
    let passed: Vec<_> = passed.into_iter().map(|(mu, grad)| (into_contiguous(mu), into_contiguous(grad))).collect();
    let mut parts = passed.chunks(TOGETHER).map(|passed| gradients::<R, F, I, BT>(&x, &last, passed));
    let first = parts.next().expect("a gradient arrived");
    parts.fold(first, |sum, part| TokenShiftGradients {
        x: CubeBackend::<R, F, I, BT>::float_add(sum.x, part.x),
        last: CubeBackend::<R, F, I, BT>::float_add(sum.last, part.last),
        mu: sum.mu.into_iter().chain(part.mu).collect(),
    })
}

fn gradients<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &CubeTensor<R>,
    last: &CubeTensor<R>,
    passed: &[(CubeTensor<R>, CubeTensor<R>)],
) -> TokenShiftGradients<CubeBackend<R, F, I, BT>> {
    let [batch, time, width] = x.shape().dims();
    let inside = inner_dtype(x.dtype);
    let groups = (batch * time).div_ceil(ROWS_PER_GROUP);
    let (to_x, to_last) = (empty_like(x), empty_like(last));
    let partial: Vec<_> = passed.iter().map(|_| empty(x, [groups, width], inside)).collect();

    let size = vector_size(x, width);
    let (cubes, units) = elements(groups * width / size);
    let (mu, grad): (Vec<_>, Vec<_>) = passed.iter().cloned().unzip();
    let dtypes = [x.dtype.into(), last.dtype.into(), mu[0].dtype.into(), grad[0].dtype.into(), inside.into()];
    let [mu_1, mu_2, mu_3] = padded(&mu, || mu[0].clone()).map(CubeTensor::into_tensor_arg);
    let [grad_1, grad_2, grad_3] = padded(&grad, || grad[0].clone()).map(CubeTensor::into_tensor_arg);
    let [sum_1, sum_2, sum_3] = padded(&partial, || unused(x, inside)).map(CubeTensor::into_tensor_arg);
    let [out_x, out_last] = [&to_x, &to_last].map(|out| out.clone().into_tensor_arg());
    let [x, last] = [x, last].map(|tensor| tensor.clone().into_tensor_arg());
    spread::launch::<R>(
        &to_x.client,
        cubes,
        units,
        size,
        x,
        last,
        mu_1,
        mu_2,
        mu_3,
        grad_1,
        grad_2,
        grad_3,
        out_x,
        out_last,
        sum_1,
        sum_2,
        sum_3,
        time,
        ROWS_PER_GROUP,
        passed.len(),
        dtypes,
    );
    let to_mu = sum_groups(partial, mu[0].shape(), mu[0].dtype);
    TokenShiftGradients { x: to_x, last: to_last, mu: to_mu }
}

/// Kernel arguments cannot be left out: up to three tensors, and something in the place of the others.
fn padded<R: CubeRuntime>(tensors: &[CubeTensor<R>], filling: impl Fn() -> CubeTensor<R>) -> [CubeTensor<R>; TOGETHER] {
    assert!(tensors.iter().all(|tensor| tensor.dtype == tensors[0].dtype), "token_shift: dtypes differ");
    std::array::from_fn(|i| tensors.get(i).cloned().unwrap_or_else(&filling))
}

/// A tensor that is not written, of one vector.
fn unused<R: CubeRuntime>(like: &CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let width = like.shape()[2];
    empty(like, [vector_size(like, width)], dtype)
}

/// The token before the one in `row`, of which this is column `column`, counted in vectors.
#[cube]
fn previous<F: Float, L: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    last: &Tensor<Vector<L, N>>,
    row: usize,
    column: usize,
    width: usize,
    time: usize,
) -> Vector<S, N> {
    let mut previous = Vector::cast_from(last[row / time * width + column]);
    if row % time != 0 {
        previous = Vector::cast_from(x[(row - 1) * width + column]);
    }
    previous
}

#[cube(launch)]
fn blend<F: Float, L: Float, M: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,    // [B, T, C]
    last: &Tensor<Vector<L, N>>, // [B, C]
    mu_1: &Tensor<Vector<M, N>>, // [1, 1, C]
    mu_2: &Tensor<Vector<M, N>>,
    mu_3: &Tensor<Vector<M, N>>,
    out_1: &mut Tensor<Vector<F, N>>, // [B, T, C]
    out_2: &mut Tensor<Vector<F, N>>,
    out_3: &mut Tensor<Vector<F, N>>,
    time: usize,
    #[comptime] count: usize,
    #[define(F, L, M, S)] _dtypes: [StorageType; 4],
) {
    let i = ABSOLUTE_POS;
    if i >= out_1.len() {
        terminate!();
    }
    let width = mu_1.len();
    let column = i % width;
    let before = previous::<F, L, S, N>(x, last, i / width, column, width, time);
    let step = Vector::<S, N>::cast_from(x[i]) - before;
    out_1[i] = Vector::cast_from(before + step * Vector::cast_from(mu_1[column]));
    if comptime!(count > 1) {
        out_2[i] = Vector::cast_from(before + step * Vector::cast_from(mu_2[column]));
    }
    if comptime!(count > 2) {
        out_3[i] = Vector::cast_from(before + step * Vector::cast_from(mu_3[column]));
    }
}

/// What one output sends back, for one token and column.
#[derive(CubeType)]
struct Share<S: Float, N: Size> {
    /// To this token.
    here: Vector<S, N>,
    /// From this token's output to the token before.
    back: Vector<S, N>,
    /// To `μ`.
    mu: Vector<S, N>,
}

#[cube]
fn share<M: Float, D: Float, S: Float, N: Size>(
    mu: &Tensor<Vector<M, N>>,
    grad: &Tensor<Vector<D, N>>,
    step: Vector<S, N>,
    at: usize,
    column: usize,
    width: usize,
    is_last: bool,
) -> Share<S, N> {
    let keep = Vector::<S, N>::cast_from(mu[column]);
    let pass = Vector::<S, N>::new(S::new(1.0)) - keep;
    let grad_here = Vector::<S, N>::cast_from(grad[at]);
    let mut here = keep * grad_here;
    if !is_last {
        here += pass * Vector::cast_from(grad[at + width]);
    }
    Share::<S, N> { here, back: pass * grad_here, mu: step * grad_here }
}

/// `∂x` and `∂last` of one column of a group of rows, and their share of every `∂μ`.
#[cube(launch)]
fn spread<F: Float, L: Float, M: Float, D: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,    // [B, T, C]
    last: &Tensor<Vector<L, N>>, // [B, C]
    mu_1: &Tensor<Vector<M, N>>, // [1, 1, C]
    mu_2: &Tensor<Vector<M, N>>,
    mu_3: &Tensor<Vector<M, N>>,
    grad_1: &Tensor<Vector<D, N>>, // [B, T, C]
    grad_2: &Tensor<Vector<D, N>>,
    grad_3: &Tensor<Vector<D, N>>,
    to_x: &mut Tensor<Vector<F, N>>,
    to_last: &mut Tensor<Vector<L, N>>,
    partial_1: &mut Tensor<Vector<S, N>>, // [groups, C]
    partial_2: &mut Tensor<Vector<S, N>>,
    partial_3: &mut Tensor<Vector<S, N>>,
    time: usize,
    rows_per_group: usize,
    #[comptime] count: usize,
    #[define(F, L, M, D, S)] _dtypes: [StorageType; 5],
) {
    let unit = ABSOLUTE_POS;
    if unit >= partial_1.len() {
        terminate!();
    }
    let width = mu_1.len();
    let rows = x.len() / width;
    let column = unit % width;
    let start = unit / width * rows_per_group;
    let end = min(start + rows_per_group, rows);
    let mut sum_1 = Vector::<S, N>::new(S::new(0.0));
    let mut sum_2 = Vector::<S, N>::new(S::new(0.0));
    let mut sum_3 = Vector::<S, N>::new(S::new(0.0));
    for row in start..end {
        let at = row * width + column;
        let is_last = (row + 1) % time == 0;
        let step = Vector::<S, N>::cast_from(x[at]) - previous::<F, L, S, N>(x, last, row, column, width, time);
        let first = share::<M, D, S, N>(mu_1, grad_1, step, at, column, width, is_last);
        let mut here = first.here;
        let mut back = first.back;
        sum_1 += first.mu;
        if comptime!(count > 1) {
            let second = share::<M, D, S, N>(mu_2, grad_2, step, at, column, width, is_last);
            here += second.here;
            back += second.back;
            sum_2 += second.mu;
        }
        if comptime!(count > 2) {
            let third = share::<M, D, S, N>(mu_3, grad_3, step, at, column, width, is_last);
            here += third.here;
            back += third.back;
            sum_3 += third.mu;
        }
        to_x[at] = Vector::cast_from(here);
        if row % time == 0 {
            to_last[row / time * width + column] = Vector::cast_from(back);
        }
    }
    partial_1[unit] = sum_1;
    if comptime!(count > 1) {
        partial_2[unit] = sum_2;
    }
    if comptime!(count > 2) {
        partial_3[unit] = sum_3;
    }
}
