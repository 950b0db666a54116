//! The sum of squares on CubeCL backends: many tensors a launch, and another launch for all. Every element is read once, 4 bytes
//! of `f32` and 2 flops; written is a number a cube.

use crate::ops::cube::reduce::sum;
use crate::ops::cube::{empty, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: u32 = 256;

/// Vectors that are worth a cube.
const SHARE: usize = 1 << 12;

/// More cubes of one tensor would leave the last launch too much.
const MOST_CUBES: usize = 1024;

/// The most tensors of a launch: its kernel has the loop once for each.
const TOGETHER: usize = 16;

/// Tensors of a launch besides: the sums, and the sizes of all.
const BESIDES: usize = 2;

/// What the tensors of a launch have in common.
type Kind = (DType, VectorSize);

pub(in crate::ops) fn squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let bindings = tensors[0].client.properties().hardware.max_bindings as usize;
    let together = bindings.saturating_sub(BESIDES).clamp(1, TOGETHER);
    let mut kinds: Vec<(Kind, Vec<CubeTensor<R>>)> = Vec::new();
    for x in tensors.into_iter().map(into_contiguous) {
        let kind = (x.dtype, vector_size(&x, x.shape().num_elements()));
        match kinds.iter_mut().find(|(other, alike)| *other == kind && alike.len() < together) {
            Some((_, alike)) => alike.push(x),
            None => kinds.push((kind, vec![x])),
        }
    }
    let cubes = |vector: VectorSize, alike: &[CubeTensor<R>]| {
        alike.iter().map(|x| cubes(x.shape().num_elements() / vector)).sum::<usize>()
    };
    let like = &kinds[0].1[0];
    let inside = inner_dtype(like.dtype);
    let all = kinds.iter().map(|((_, vector), alike)| cubes(*vector, alike)).sum::<usize>();
    let partial = empty(like, [all], inside);
    let out = empty(like, [1], inside);
    let mut first = 0;
    for ((_, vector), alike) in kinds {
        let cubes = cubes(vector, &alike);
        launch(alike, vector, cubes, &partial, first, true);
        first += cubes;
    }
    let vector = vector_size(&partial, all);
    launch(vec![partial], vector, 1, &out, 0, false);
    out
}

/// Cubes that share a tensor of so many vectors.
fn cubes(vectors: usize) -> usize {
    vectors.div_ceil(SHARE).clamp(1, MOST_CUBES)
}

/// Sums of so many cubes, from place `first` of `sums` on: the tensors' squares, each by its [`cubes`], or one tensor itself.
fn launch<R: CubeRuntime>(
    tensors: Vec<CubeTensor<R>>,
    vector: VectorSize,
    cubes: usize,
    sums: &CubeTensor<R>,
    first: usize,
    squared: bool,
) {
    let dtypes = [tensors[0].dtype.into(), sums.dtype.into()];
    add_up::launch::<R>(
        &sums.client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        vector,
        tensors.into_iter().map(CubeTensor::into_tensor_arg).collect(),
        sums.clone().into_tensor_arg(),
        first,
        squared,
        dtypes,
    );
}

/// The cubes of one tensor come after those of the one before.
#[cube(launch)]
fn add_up<F: Float, S: Float, N: Size>(
    tensors: &Sequence<Tensor<Vector<F, N>>>,
    sums: &mut Tensor<S>,
    first: usize,
    #[comptime] squared: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let mut vectors = Vector::<S, N>::new(S::new(0.0));
    let mut start = 0usize.runtime();
    #[unroll]
    for which in 0..tensors.len() {
        let x = tensors.index(which);
        let mut cubes = CUBE_COUNT;
        if squared {
            cubes = min(max(x.len().div_ceil(SHARE), 1), MOST_CUBES);
        }
        if CUBE_POS >= start && CUBE_POS < start + cubes {
            let mut at = (CUBE_POS - start) * UNITS as usize + UNIT_POS as usize;
            while at < x.len() {
                let numbers = Vector::<S, N>::cast_from(x[at]);
                if squared {
                    vectors += numbers * numbers;
                } else {
                    vectors += numbers;
                }
                at += cubes * UNITS as usize;
            }
        }
        start += cubes;
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
