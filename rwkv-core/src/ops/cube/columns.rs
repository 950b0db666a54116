//! The second half of a sum down the columns: the partial sums of all groups of rows become one row.

use super::empty;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Columns of a cube. Its units are this many columns times [`LANES`] shares of the groups.
const COLUMNS: u32 = 32;
const LANES: u32 = 8;

/// `Σ_g partial[g, :]`, in this shape and dtype.
///
/// # Shapes
/// - `partial`: `[groups, C]`
/// - returns any shape of `C` elements
pub(in crate::ops) fn sum_groups<R: CubeRuntime>(
    partial: CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let [_, columns] = partial.shape().dims();
    let out = empty(&partial, shape, dtype);
    let cubes = u32::try_from(columns).expect("fewer than 2³² columns").div_ceil(COLUMNS);
    let dtypes = [partial.dtype.into(), dtype.into()];
    add_up::launch::<R>(
        &partial.client.clone(),
        CubeCount::Static(cubes, 1, 1),
        CubeDim::new_1d(COLUMNS * LANES),
        partial.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        dtypes,
    );
    out
}

#[cube(launch)]
fn add_up<S: Float, P: Float>(partial: &Tensor<S>, out: &mut Tensor<P>, #[define(S, P)] _dtypes: [StorageType; 2]) {
    let columns = partial.shape(1);
    let groups = partial.shape(0);
    let unit = UNIT_POS as usize;
    let lane = unit / COLUMNS as usize;
    let column = CUBE_POS * COLUMNS as usize + unit % COLUMNS as usize;
    let mut shared = SharedMemory::<S>::new(comptime!((COLUMNS * LANES) as usize));
    let mut sum = S::new(0.0);
    if column < columns {
        let mut group = lane;
        while group < groups {
            sum += partial[group * columns + column];
            group += LANES as usize;
        }
    }
    shared[unit] = sum;
    sync_cube();
    if lane == 0 && column < columns {
        let mut total = S::new(0.0);
        for i in 0..LANES as usize {
            total += shared[i * COLUMNS as usize + unit];
        }
        out[column] = P::cast_from(total);
    }
}
