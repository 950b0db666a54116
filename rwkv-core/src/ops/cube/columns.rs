//! The second half of a sum down the columns: the partial sums of all groups of rows become one row.

use super::empty_together;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Columns of a cube. Its units are this many columns times [`LANES`] shares of the groups.
const COLUMNS: u32 = 32;
const LANES: u32 = 8;

/// `Σ_g partial[g, :]` of each of several tensors, in this shape and dtype, in one launch.
///
/// # Shapes
/// - `partials`: `[groups, C]` each
/// - returns any shape of `C` elements for each
///
/// # Panics
/// Without a tensor.
pub(in crate::ops) fn sum_groups<R: CubeRuntime>(
    partials: Vec<CubeTensor<R>>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> Vec<CubeTensor<R>> {
    let shape = shape.into();
    let like = partials[0].clone();
    let [_, columns] = like.shape().dims();
    let outs = empty_together(&like, partials.iter().map(|_| shape.clone()), dtype);
    let cubes = u32::try_from(columns).expect("fewer than 2³² columns").div_ceil(COLUMNS);
    let dtypes = [like.dtype.into(), dtype.into()];
    add_up::launch::<R>(
        &like.client,
        CubeCount::Static(cubes, partials.len() as u32, 1),
        CubeDim::new_1d(COLUMNS * LANES),
        partials.into_iter().map(CubeTensor::into_tensor_arg).collect(),
        outs.iter().cloned().map(CubeTensor::into_tensor_arg).collect(),
        dtypes,
    );
    outs
}

/// The second coordinate of a cube is that of its tensor.
#[cube(launch)]
fn add_up<S: Float, P: Float>(
    partials: &Sequence<Tensor<S>>,
    outs: &mut Sequence<Tensor<P>>,
    #[define(S, P)] _dtypes: [StorageType; 2],
) {
    let columns = partials.index(0usize).shape(1);
    let groups = partials.index(0usize).shape(0);
    let unit = UNIT_POS as usize;
    let lane = unit / COLUMNS as usize;
    let column = CUBE_POS_X as usize * COLUMNS as usize + unit % COLUMNS as usize;
    let mut shared = SharedMemory::<S>::new(comptime!((COLUMNS * LANES) as usize));
    let mut sum = S::new(0.0);
    #[unroll]
    for which in 0..partials.len() {
        if CUBE_POS_Y as usize == which && column < columns {
            let partial = partials.index(which);
            let mut group = lane;
            while group < groups {
                sum += partial[group * columns + column];
                group += LANES as usize;
            }
        }
    }
    shared[unit] = sum;
    sync_cube();
    if lane == 0 && column < columns {
        let mut total = S::new(0.0);
        for i in 0..LANES as usize {
            total += shared[i * COLUMNS as usize + unit];
        }
        #[unroll]
        for which in 0..partials.len() {
            if CUBE_POS_Y as usize == which {
                let out = outs.index_mut(which);
                out[column] = P::cast_from(total);
            }
        }
    }
}
