//! The sum of squares on CubeCL backends: one launch a tensor, and another for all. Every element is read once, 4 bytes of `f32`
//! and 2 flops; written is a number a cube.

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

/// More cubes of one tensor would leave the last launch too much.
const MOST_CUBES: usize = 1024;

pub(in crate::ops) fn squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let cubes: Vec<usize> =
        tensors.iter().map(|x| x.shape().num_elements().div_ceil(SHARE).clamp(1, MOST_CUBES)).collect();
    let inside = inner_dtype(tensors[0].dtype);
    let partial = empty(&tensors[0], [cubes.iter().sum::<usize>()], inside);
    let mut first = 0;
    for (x, cubes) in tensors.into_iter().zip(cubes) {
        launch(into_contiguous(x), &partial, first, cubes, true);
        first += cubes;
    }
    let out = empty(&partial, [1], inside);
    launch(partial, &out, 0, 1, false);
    out
}

/// Sums of so many cubes, from place `first` of `sums` on.
fn launch<R: CubeRuntime>(x: CubeTensor<R>, sums: &CubeTensor<R>, first: usize, cubes: usize, squared: bool) {
    let size = vector_size(&x, x.shape().num_elements());
    let dtypes = [x.dtype.into(), sums.dtype.into()];
    add_up::launch::<R>(
        &sums.client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        size,
        x.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        first,
        squared,
        dtypes,
    );
}

#[cube(launch)]
fn add_up<F: Float, S: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    sums: &mut Tensor<S>,
    first: usize,
    #[comptime] squared: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let mut at = ABSOLUTE_POS;
    let mut vectors = Vector::<S, N>::new(S::new(0.0));
    while at < x.len() {
        let numbers = Vector::<S, N>::cast_from(x[at]);
        if squared {
            vectors += numbers * numbers;
        } else {
            vectors += numbers;
        }
        at += CUBE_COUNT * UNITS as usize;
    }
    let mut own = S::new(0.0);
    #[unroll]
    for i in 0..N::value() {
        own += vectors[i];
    }
    let all = sum::<S>(own, UNITS);
    if UNIT_POS == 0 {
        sums[first + CUBE_POS] = all;
    }
}
