//! RWKV's operations on CubeCL backends (wgpu, CUDA): what the kernels share, and which operation has which kernels.
//!
//! A kernel is written once for every runtime; each operation keeps its own beside its other implementations, with its
//! cost. Three shapes of launch serve all but the decoding step, which has products of its own, WKV, whose units share sequences,
//! the embedding and sums of squares:
//!
//! - **element-wise**: a unit takes a vector of neighbouring elements ([`elements`]);
//! - **by row**: the units of a cube share a row and combine what they found in shared memory ([`rows`], `reduce.rs`);
//! - **down the columns**: a unit takes a column through [`ROWS_PER_GROUP`] rows and leaves a partial sum, and a second
//!   kernel adds the partial sums of all groups ([`columns::sum_groups`]).
//!
//! Arithmetic is in `f32` whatever the tensors hold, sizes are run-time values, and neighbouring units read neighbouring
//! addresses.

mod backend;
pub(super) mod columns;
pub(super) mod reduce;

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::{MemoryLayout, MemoryLayoutDescriptor};
use cubecl::zspace::metadata::Metadata;

/// Rows that one unit of a kernel down the columns goes through.
pub(super) const ROWS_PER_GROUP: usize = 32;

/// Units of a cube where each works alone: a multiple of every GPU's warp, and small, so that few elements still spread
/// over all multiprocessors.
const UNITS_PER_CUBE: u32 = 64;

/// Planes (warps) narrower than this are the vectors of a processor, where a driver in software runs: it has no use for
/// many units.
pub(super) const NARROWEST_PLANE: u32 = 16;

/// wgpu's limit of cubes in one dimension.
const MAX_CUBES: u32 = 65_535;

/// An uninitialised tensor on the device of `like`.
pub(super) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// An uninitialised tensor of the shape and dtype of `like`.
pub(super) fn empty_like<R: CubeRuntime>(like: &CubeTensor<R>) -> CubeTensor<R> {
    empty(like, like.shape(), like.dtype)
}

/// Uninitialised tensors of these shapes on the device of `like`, side by side in one buffer: the host spends more time on
/// asking for memory than on a launch. The buffer is held as long as any of them. A launch may read one and write another,
/// except where wgpu is built with exclusive memory (WebAssembly), which no feature of this crate asks for.
pub(super) fn empty_together<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shapes: impl IntoIterator<Item = Shape>,
    dtype: DType,
) -> Vec<CubeTensor<R>> {
    let shapes: Vec<Shape> = shapes.into_iter().collect();
    let described = shapes.iter().map(|shape| MemoryLayoutDescriptor::contiguous(shape.clone(), dtype.size()));
    let layouts = like.client.empty_tensors(described.collect());
    let tensor = |(layout, shape): (MemoryLayout, Shape)| {
        let metadata = Metadata::new(shape, layout.strides);
        CubeTensor::new(like.client.clone(), layout.memory, metadata, like.device.clone(), dtype)
    };
    layouts.into_iter().zip(shapes).map(tensor).collect()
}

/// How many elements a unit loads at once from a tensor like this one, in which vectors must not straddle a multiple of
/// `width` elements.
pub(super) fn vector_size<R: CubeRuntime>(like: &CubeTensor<R>, width: usize) -> VectorSize {
    like.client.io_optimized_vector_sizes(like.dtype.size()).find(|&size| width.is_multiple_of(size)).unwrap_or(1)
}

/// [`RwkvBackend::width_of_products`](crate::ops::RwkvBackend::width_of_products): a row of any dtype is whole vectors of 16
/// bytes, and a wide one whole tiles of a product. 50,277 columns become 50,304.
pub(super) fn width_of_products(columns: usize) -> usize {
    columns.next_multiple_of(if columns < 1024 { 8 } else { 64 })
}

/// A launch of `units` units that each work alone. The last cube may have units too many.
pub(super) fn elements(units: usize) -> (CubeCount, CubeDim) {
    (fold(units.div_ceil(UNITS_PER_CUBE as usize)), CubeDim::new_1d(UNITS_PER_CUBE))
}

/// A launch of a cube for each of `rows` rows, and the number of its units, a power of two that suits rows of `width`
/// elements. There may be cubes too many.
pub(super) fn rows(rows: usize, width: usize) -> (CubeCount, CubeDim, u32) {
    let units = u32::try_from(width.next_power_of_two()).unwrap_or(u32::MAX).clamp(32, 256);
    (fold(rows), CubeDim::new_1d(units), units)
}

/// At least `cubes` cubes, in two dimensions where one is not enough.
pub(super) fn fold(cubes: usize) -> CubeCount {
    let cubes = u32::try_from(cubes).expect("fewer than 2³² cubes");
    let x = cubes.clamp(1, MAX_CUBES);
    CubeCount::Static(x, cubes.div_ceil(x), 1)
}
