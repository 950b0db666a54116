//! The sum of squares on CubeCL backends: one launch, and another where more than one cube shares the tensor. Every element is
//! read once, 4 bytes of `f32` and 2 flops, and nothing of the tensor's size is written.

use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::reduce::sum;
use crate::ops::cube::{empty, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: u32 = 256;

/// Elements that are worth a cube.
const SHARE: usize = 1 << 14;

/// More cubes would leave the second launch too much.
const MOST_CUBES: usize = 1024;

pub(in crate::ops) fn squares<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let count = x.shape().num_elements();
    let cubes = count.div_ceil(SHARE).clamp(1, MOST_CUBES);
    let inside = inner_dtype(x.dtype);
    let partial = empty(&x, if cubes == 1 { vec![1] } else { vec![cubes, 1] }, inside);
    let size = vector_size(&x, count);
    let dtypes = [x.dtype.into(), inside.into()];
    add_up::launch::<R>(
        &x.client.clone(),
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        size,
        x.into_tensor_arg(),
        partial.clone().into_tensor_arg(),
        dtypes,
    );
    if cubes == 1 { partial } else { sum_groups(partial, [1], inside) }
}

#[cube(launch)]
fn add_up<F: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    partial: &mut Tensor<S>, // one number a cube
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let mut at = ABSOLUTE_POS;
    let mut squares = Vector::<S, N>::new(S::new(0.0));
    while at < x.len() {
        let numbers = Vector::<S, N>::cast_from(x[at]);
        squares += numbers * numbers;
        at += CUBE_COUNT * UNITS as usize;
    }
    let mut own = S::new(0.0);
    #[unroll]
    for i in 0..N::value() {
        own += squares[i];
    }
    let all = sum::<S>(own, UNITS);
    if UNIT_POS == 0 {
        partial[CUBE_POS] = all;
    }
}
