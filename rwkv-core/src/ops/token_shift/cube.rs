//! Token shift on CubeCL backends.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | forward | 1 | `x`; the token before is in the cache | `out` | 3 |
//! | backward | 2 | `x`, `grad` | `∂x`, `∂last`, and `∂μ` by groups of rows | 7 |

use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::{ROWS_PER_GROUP, elements, empty, empty_like, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub(in crate::ops) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    last: CubeTensor<R>,
    mu: CubeTensor<R>,
) -> CubeTensor<R> {
    let [x, last, mu] = [x, last, mu].map(into_contiguous);
    let out = empty_like(&x);
    let [batch, time, width] = x.shape().dims();
    let size = vector_size(&x, width);
    let (cubes, units) = elements(batch * time * width / size);
    let dtypes = [x.dtype.into(), last.dtype.into(), mu.dtype.into(), inner_dtype(x.dtype).into()];
    let client = x.client.clone();
    let [x, last, mu] = [x, last, mu].map(CubeTensor::into_tensor_arg);
    blend::launch::<R>(&client, cubes, units, size, x, last, mu, out.clone().into_tensor_arg(), time, dtypes);
    out
}

pub(in crate::ops) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    last: CubeTensor<R>,
    mu: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [CubeTensor<R>; 3] {
    let [x, last, mu, grad] = [x, last, mu, grad].map(into_contiguous);
    let [batch, time, width] = x.shape().dims();
    let inside = inner_dtype(x.dtype);
    let groups = (batch * time).div_ceil(ROWS_PER_GROUP);
    let (to_x, to_last, partial) = (empty_like(&x), empty_like(&last), empty(&x, [groups, width], inside));
    let (mu_shape, mu_dtype) = (mu.shape(), mu.dtype);

    let size = vector_size(&x, width);
    let (cubes, units) = elements(groups * width / size);
    let dtypes = [x.dtype.into(), last.dtype.into(), mu.dtype.into(), grad.dtype.into(), inside.into()];
    let client = x.client.clone();
    let [x, last, mu, grad] = [x, last, mu, grad].map(CubeTensor::into_tensor_arg);
    let [out_x, out_last, out_mu] = [&to_x, &to_last, &partial].map(|out| out.clone().into_tensor_arg());
    spread::launch::<R>(
        &client,
        cubes,
        units,
        size,
        x,
        last,
        mu,
        grad,
        out_x,
        out_last,
        out_mu,
        time,
        ROWS_PER_GROUP,
        dtypes,
    );
    [to_x, to_last, sum_groups(partial, mu_shape, mu_dtype)]
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
    mu: &Tensor<Vector<M, N>>,   // [1, 1, C]
    out: &mut Tensor<Vector<F, N>>,
    time: usize,
    #[define(F, L, M, S)] _dtypes: [StorageType; 4],
) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let width = mu.len();
    let column = i % width;
    let before = previous::<F, L, S, N>(x, last, i / width, column, width, time);
    let here = Vector::<S, N>::cast_from(x[i]);
    out[i] = Vector::cast_from(before + (here - before) * Vector::cast_from(mu[column]));
}

/// `∂x` and `∂last` of one column of a group of rows, and their share of `∂μ`.
#[cube(launch)]
fn spread<F: Float, L: Float, M: Float, D: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,    // [B, T, C]
    last: &Tensor<Vector<L, N>>, // [B, C]
    mu: &Tensor<Vector<M, N>>,   // [1, 1, C]
    grad: &Tensor<Vector<D, N>>, // [B, T, C]
    to_x: &mut Tensor<Vector<F, N>>,
    to_last: &mut Tensor<Vector<L, N>>,
    partial: &mut Tensor<Vector<S, N>>, // [groups, C]
    time: usize,
    rows_per_group: usize,
    #[define(F, L, M, D, S)] _dtypes: [StorageType; 5],
) {
    let unit = ABSOLUTE_POS;
    if unit >= partial.len() {
        terminate!();
    }
    let width = mu.len();
    let rows = x.len() / width;
    let column = unit % width;
    let start = unit / width * rows_per_group;
    let end = min(start + rows_per_group, rows);
    let keep = Vector::<S, N>::cast_from(mu[column]);
    let pass = Vector::<S, N>::new(S::new(1.0)) - keep;
    let mut to_mu = Vector::<S, N>::new(S::new(0.0));
    for row in start..end {
        let at = row * width + column;
        let here = Vector::<S, N>::cast_from(grad[at]);
        let before = previous::<F, L, S, N>(x, last, row, column, width, time);
        to_mu += (Vector::cast_from(x[at]) - before) * here;
        let mut to = keep * here;
        if (row + 1) % time != 0 {
            to += pass * Vector::cast_from(grad[at + width]);
        }
        to_x[at] = Vector::cast_from(to);
        if row % time == 0 {
            to_last[row / time * width + column] = Vector::cast_from(pass * here);
        }
    }
    partial[unit] = to_mu;
}
