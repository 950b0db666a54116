//! What the kernels of the decoding step have in common: a product of a few rows with a matrix, `[in, out]`.
//!
//! The units of a cube share [`Cut::lanes`] vectors of neighbouring columns: unit `group·lanes + lane` adds up what every so
//! many rows give to vector `lane`, and the sums of all groups meet in shared memory. What multiplies the matrix is staged
//! in shared memory, [`Cut::tile`] rows at a time.

use crate::ops::cube::{NARROWEST_PLANE, vector_size};
use crate::ops::layer_norm::cube::moments_of;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: usize = 256;

/// Cubes that a product aims at: enough for every multiprocessor of a large GPU.
const CUBES_WANTED: usize = 256;

/// Fewer vectors of columns beside each other, which would make more cubes of a narrow product, would be less than memory hands out
/// at once.
const LEAST_LANES: usize = 4;

/// More would leave too few groups to share the rows.
const MOST_LANES: usize = 32;

/// How the units of a cube share a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    /// Rows that multiply the matrix: sequences.
    pub batch: usize,
    /// Vectors of columns.
    pub lanes: usize,
    /// Units that share a vector, a power of two.
    pub groups: usize,
    /// Rows of the matrix that are staged at a time, a multiple of `groups`.
    pub tile: usize,
}

impl Cut {
    /// Units of a cube.
    pub fn units(self) -> usize {
        self.lanes * self.groups
    }
}

/// A launch over the columns of matrices like this one.
pub(super) struct Launch {
    pub vector: VectorSize,
    pub cut: Cut,
    pub units: CubeDim,
}

impl Launch {
    /// Vectors divide `widths`, the columns of the matrices of so many rows; at most `tile` rows are staged at a time.
    pub fn new<R: CubeRuntime>(
        like: &CubeTensor<R>,
        widths: &[usize],
        depth: usize,
        batch: usize,
        tile: usize,
    ) -> Self {
        let width = widths.iter().copied().fold(0, greatest_common_divisor);
        let vector = vector_size(like, width);
        let vectors = widths.iter().sum::<usize>() / vector;
        let software = like.client.properties().hardware.plane_size_max < NARROWEST_PLANE;
        let cubes_wanted = if software { 1 } else { CUBES_WANTED };
        let mut lanes = LEAST_LANES;
        while lanes < MOST_LANES && vectors / (2 * lanes) >= cubes_wanted {
            lanes *= 2;
        }
        let groups = UNITS / lanes;
        // As many rows at a time as leave few beyond the last.
        let tile = depth.div_ceil(depth.div_ceil(tile)).next_multiple_of(groups);
        let cut = Cut { batch, lanes, groups, tile };
        Self { vector, cut, units: CubeDim::new_1d(UNITS as u32) }
    }

    /// Cubes for a matrix of so many columns.
    pub fn cubes(&self, columns: usize) -> usize {
        (columns / self.vector).div_ceil(self.cut.lanes)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The vector of columns of a unit, and whether it is one: the last cube may have units too many, which repeat the last.
#[derive(CubeType)]
pub(super) struct Column {
    pub at: usize,
    pub exists: bool,
    /// Vectors in a row of the matrix.
    pub stride: usize,
}

/// The column of this unit in cube `cube` of those that share a matrix of so many columns.
#[cube]
pub(super) fn column_of<N: Size>(cube: usize, columns: usize, #[comptime] cut: Cut) -> Column {
    let stride = columns / N::value();
    let at = cube * cut.lanes + UNIT_POS as usize % cut.lanes;
    Column { at: min(at, stride - 1), exists: at < stride && (UNIT_POS as usize) < cut.lanes, stride }
}

/// Adds what the staged rows give to the sums, `[batch]`.
#[cube]
pub(super) fn multiply<W: Float, N: Size>(
    weight: &Tensor<Vector<W, N>>,
    inputs: &SharedMemory<f32>,
    sums: &mut Array<Vector<f32, N>>,
    first: usize,
    depth: usize,
    column: &Column,
    #[comptime] cut: Cut,
) {
    let group = UNIT_POS as usize / cut.lanes;
    let rows = comptime!(cut.tile / cut.groups);
    #[unroll(rows <= 8)]
    for i in 0..rows {
        let row = i * cut.groups + group;
        // Rows beyond the matrix are staged as zeros.
        let at = min(first + row, depth - 1) * column.stride + column.at;
        let numbers = Vector::<f32, N>::cast_from(weight[at]);
        #[unroll]
        for b in 0..cut.batch {
            sums[b] += Vector::new(inputs[b * cut.tile + row]) * numbers;
        }
    }
}

/// No sum yet of any sequence.
#[cube]
pub(super) fn zeros<N: Size>(#[comptime] cut: Cut) -> Array<Vector<f32, N>> {
    let mut sums = Array::<Vector<f32, N>>::new(cut.batch);
    #[unroll]
    for b in 0..cut.batch {
        sums[b] = Vector::new(0.0);
    }
    sums
}

/// The sum of what all groups bring for the unit's vector. Every unit must take part.
#[cube]
pub(super) fn total<N: Size>(
    shared: &mut SharedMemory<Vector<f32, N>>,
    value: Vector<f32, N>,
    #[comptime] cut: Cut,
) -> Vector<f32, N> {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(cut.units() / 2).runtime();
    while half >= cut.lanes {
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[unit % cut.lanes];
    // The memory is used again at once.
    sync_cube();
    sum
}

/// The moments of the rows of the stream, `[batch, 2]` in shared memory: mean and `1/√(variance + ε)`.
#[cube]
pub(super) fn moments(x: &Tensor<f32>, width: usize, epsilon: f32, #[comptime] cut: Cut) -> SharedMemory<f32> {
    let mut found = SharedMemory::<f32>::new(comptime!(2 * cut.batch));
    for b in 0..cut.batch {
        let row = moments_of::<f32, f32>(x, b * width, width, epsilon, comptime!(cut.units() as u32));
        if UNIT_POS == 0 {
            found[2 * b] = row.mean;
            found[2 * b + 1] = row.inverse;
        }
    }
    sync_cube();
    found
}

/// Which row of the matrix and which sequence is staged at a place.
#[derive(CubeType)]
pub(super) struct Staged {
    pub row: usize,
    pub exists: bool,
    /// Where it stands in a tensor `[batch, depth]`.
    pub at: usize,
}

#[cube]
pub(super) fn staged(place: usize, first: usize, depth: usize, #[comptime] cut: Cut) -> Staged {
    let row = first + place % cut.tile;
    let exists = row < depth;
    let row = min(row, depth - 1);
    Staged { row, exists, at: place / cut.tile * depth + row }
}

/// The layer norm of an element of the stream.
#[cube]
pub(super) fn normal(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    moments: &SharedMemory<f32>,
    place: usize,
    staged: &Staged,
    #[comptime] cut: Cut,
) -> f32 {
    let b = place / cut.tile;
    (x[staged.at] - moments[2 * b]) * moments[2 * b + 1] * weight[staged.row] + bias[staged.row]
}

/// Every cube computes every normalised element; one of them keeps it for the next token.
#[cube]
pub(super) fn keeps(first: usize, #[comptime] cut: Cut) -> bool {
    first / cut.tile % CUBE_COUNT == CUBE_POS
}
