//! Layer normalisation on CubeCL backends.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | forward | 1 | `x`, twice more from the cache | `out` | 7 |
//! | backward | 3 | `x` and `grad`, twice | `∂x`; by groups of rows `∂weight`, `∂bias`; two numbers a row | 18 |
//!
//! A cube takes a row. The variance is that of the centred row, as a difference of means would cancel.

use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::reduce::sum;
use crate::ops::cube::{ROWS_PER_GROUP, elements, empty, empty_like, rows};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub(in crate::ops) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: CubeTensor<R>,
    epsilon: f64,
) -> CubeTensor<R> {
    let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
    let out = empty_like(&x);
    let width = weight.shape().num_elements();
    let (cubes, dim, units) = rows(x.shape().num_elements() / width, width);
    let inside = inner_dtype(x.dtype);
    let dtypes = [x.dtype.into(), weight.dtype.into(), bias.dtype.into(), inside.into()];
    let epsilon = InputScalar::new(epsilon, inside);
    let client = x.client.clone();
    let [x, weight, bias] = [x, weight, bias].map(CubeTensor::into_tensor_arg);
    normalise::launch::<R>(
        &client,
        cubes,
        dim,
        x,
        weight,
        bias,
        out.clone().into_tensor_arg(),
        epsilon,
        width,
        units,
        dtypes,
    );
    out
}

pub(in crate::ops) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f64,
) -> [CubeTensor<R>; 3] {
    let [x, weight, grad] = [x, weight, grad].map(into_contiguous);
    let width = weight.shape().num_elements();
    let count = x.shape().num_elements() / width;
    let inside = inner_dtype(x.dtype);
    let (to_x, moments) = (empty_like(&x), empty(&x, [count, 2], inside));
    let groups = count.div_ceil(ROWS_PER_GROUP);
    let partial = [(); 2].map(|()| empty(&x, [groups, width], inside));
    let parameters = weight.dtype;
    let client = x.client.clone();

    let (cubes, dim, units) = rows(count, width);
    let dtypes = [x.dtype.into(), weight.dtype.into(), grad.dtype.into(), inside.into()];
    along_rows::launch::<R>(
        &client,
        cubes,
        dim,
        x.clone().into_tensor_arg(),
        weight.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        to_x.clone().into_tensor_arg(),
        moments.clone().into_tensor_arg(),
        InputScalar::new(epsilon, inside),
        width,
        units,
        dtypes,
    );

    let (cubes, dim) = elements(groups * width);
    let dtypes = [x.dtype.into(), grad.dtype.into(), inside.into()];
    let [x, grad, moments] = [x, grad, moments].map(CubeTensor::into_tensor_arg);
    let [to_weight, to_bias] = partial.clone().map(CubeTensor::into_tensor_arg);
    down_columns::launch::<R>(&client, cubes, dim, x, grad, moments, to_weight, to_bias, width, ROWS_PER_GROUP, dtypes);
    let mut sums = sum_groups(partial.into(), [width], parameters).into_iter();
    let mut next = || sums.next().expect("a sum for each");
    [to_x, next(), next()]
}

/// The mean of a row and `1/√(variance + ε)`.
#[derive(CubeType)]
pub(in crate::ops) struct Moments<S: Float> {
    pub mean: S,
    pub inverse: S,
}

/// The moments of the row that starts at `start`.
#[cube]
pub(in crate::ops) fn moments_of<F: Float, S: Float>(
    x: &Tensor<F>,
    start: usize,
    width: usize,
    epsilon: S,
    #[comptime] units: u32,
) -> Moments<S> {
    let step = units as usize;
    let mut column = UNIT_POS as usize;
    let mut total = S::new(0.0);
    while column < width {
        total += S::cast_from(x[start + column]);
        column += step;
    }
    let mean = sum::<S>(total, units) / S::cast_from(width);
    let mut column = UNIT_POS as usize;
    let mut squares = S::new(0.0);
    while column < width {
        let centred = S::cast_from(x[start + column]) - mean;
        squares += centred * centred;
        column += step;
    }
    let variance = sum::<S>(squares, units) / S::cast_from(width);
    Moments::<S> { mean, inverse: S::new(1.0) / S::sqrt(variance + epsilon) }
}

#[cube(launch)]
fn normalise<F: Float, W: Float, P: Float, S: Float>(
    x: &Tensor<F>,      // [rows, C], of any shape
    weight: &Tensor<W>, // [C]
    bias: &Tensor<P>,   // [C]
    out: &mut Tensor<F>,
    epsilon: InputScalar,
    width: usize,
    #[comptime] units: u32,
    #[define(F, W, P, S)] _dtypes: [StorageType; 4],
) {
    let start = CUBE_POS * width;
    if start < x.len() {
        let moments = moments_of::<F, S>(x, start, width, epsilon.get::<S>(), units);
        let mut column = UNIT_POS as usize;
        while column < width {
            let normal = (S::cast_from(x[start + column]) - moments.mean) * moments.inverse;
            out[start + column] = F::cast_from(normal * S::cast_from(weight[column]) + S::cast_from(bias[column]));
            column += units as usize;
        }
    }
}

/// `∂x` of a row, and its moments.
#[cube(launch)]
fn along_rows<F: Float, W: Float, D: Float, S: Float>(
    x: &Tensor<F>,      // [rows, C], of any shape
    weight: &Tensor<W>, // [C]
    grad: &Tensor<D>,   // as x
    to_x: &mut Tensor<F>,
    moments: &mut Tensor<S>, // [rows, 2]
    epsilon: InputScalar,
    width: usize,
    #[comptime] units: u32,
    #[define(F, W, D, S)] _dtypes: [StorageType; 4],
) {
    let start = CUBE_POS * width;
    if start < x.len() {
        let row = moments_of::<F, S>(x, start, width, epsilon.get::<S>(), units);
        let mut column = UNIT_POS as usize;
        let mut direct = S::new(0.0);
        let mut along = S::new(0.0);
        while column < width {
            let normal = (S::cast_from(x[start + column]) - row.mean) * row.inverse;
            let h = S::cast_from(grad[start + column]) * S::cast_from(weight[column]);
            direct += h;
            along += h * normal;
            column += units as usize;
        }
        let direct = sum::<S>(direct, units) / S::cast_from(width);
        let along = sum::<S>(along, units) / S::cast_from(width);
        let mut column = UNIT_POS as usize;
        while column < width {
            let normal = (S::cast_from(x[start + column]) - row.mean) * row.inverse;
            let h = S::cast_from(grad[start + column]) * S::cast_from(weight[column]);
            to_x[start + column] = F::cast_from((h - direct - normal * along) * row.inverse);
            column += units as usize;
        }
        if UNIT_POS == 0 {
            moments[2 * CUBE_POS] = row.mean;
            moments[2 * CUBE_POS + 1] = row.inverse;
        }
    }
}

/// One column's share of `∂weight` and `∂bias` from a group of rows.
#[cube(launch)]
fn down_columns<F: Float, D: Float, S: Float>(
    x: &Tensor<F>,             // [rows, C], of any shape
    grad: &Tensor<D>,          // as x
    moments: &Tensor<S>,       // [rows, 2]
    to_weight: &mut Tensor<S>, // [groups, C]
    to_bias: &mut Tensor<S>,   // [groups, C]
    width: usize,
    rows_per_group: usize,
    #[define(F, D, S)] _dtypes: [StorageType; 3],
) {
    let unit = ABSOLUTE_POS;
    if unit >= to_weight.len() {
        terminate!();
    }
    let column = unit % width;
    let start = unit / width * rows_per_group;
    let end = min(start + rows_per_group, x.len() / width);
    let mut weight = S::new(0.0);
    let mut bias = S::new(0.0);
    for row in start..end {
        let at = row * width + column;
        let grad = S::cast_from(grad[at]);
        weight += grad * (S::cast_from(x[at]) - moments[2 * row]) * moments[2 * row + 1];
        bias += grad;
    }
    to_weight[unit] = weight;
    to_bias[unit] = bias;
}
