//! `xᵀ·g`, a sum of outer products over the rows of two matrices: the gradient of a weight.
//!
//! `gemm` brings both factors of a tile into the order that its microkernels read. With a transposed factor it walks through
//! memory in strides of a row to do so, which took a third of such a product's time (`BENCHMARKS.md`). Here both are copied
//! row by row, as they lie in memory, and multiplied by the same microkernels.

use super::{Matrix, Product, Tiles};
use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::{CHUNK, kernel, run};
use std::cell::Cell;

/// Rows of a microkernel's result: columns of `x` that a sliver holds.
const HEIGHT: usize = 6;

/// Rows of `x` and `g` that are copied at a time: what a tile needs of them stays in the second cache.
const DEPTH: usize = 256;

/// Columns of `x` and of `g` that one task multiplies: whole slivers of the first, whole panels of the second.
const TILE: (usize, usize) = (43 * HEIGHT, 256);

/// A tile's sum has at most one part for each of these many rows that there are, or are begun.
const PART: usize = 192;

/// Of `gemm`: sizes of the result and the depth; the result, `g` and `x` in slivers; strides of the result by rows of it and
/// columns, of the panel by rows, of the sliver by rows and columns; the factors of the old result and of the product, and
/// whether there is an old one; conjugations; what to fetch ahead.
type Microkernel = unsafe fn(
    usize,
    usize,
    usize,
    *mut f32,
    *const f32,
    *const f32,
    isize,
    isize,
    isize,
    isize,
    isize,
    f32,
    f32,
    u8,
    bool,
    bool,
    bool,
    *const f32,
);

/// The microkernels of one instruction set, which the processor has: in row `i` and column `j` of the table that for up to
/// `(i + 1)·lanes` columns of `g` and `j + 1` columns of `x`.
#[derive(Clone, Copy)]
struct Microkernels {
    table: &'static [[Microkernel; HEIGHT]],
    lanes: usize,
}

impl Microkernels {
    /// Those with the widest vectors that the processor has.
    fn widest() -> Option<Self> {
        Self::avx512().or_else(Self::fma)
    }

    fn avx512() -> Option<Self> {
        use gemm_f32::microkernel::avx512f::f32::UKR;
        is_x86_feature_detected!("avx512f").then_some(Self { table: &UKR, lanes: 16 })
    }

    fn fma() -> Option<Self> {
        use gemm_f32::microkernel::fma::f32::UKR;
        (is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma")).then_some(Self { table: &UKR, lanes: 8 })
    }
}

/// `xᵀ·g` of two row-major matrices, where the processor has microkernels for it. Sums are added up in the order of the
/// rows, in parts that depend on the sizes alone.
///
/// # Panics
/// When the matrices have different numbers of rows.
pub(super) fn multiply(x: Matrix<'_>, g: Matrix<'_>) -> Option<Vec<f32>> {
    assert!(x.rows == g.rows && x.column_stride == 1 && g.column_stride == 1, "matrices that do not fit");
    Some(multiply_with(Microkernels::widest()?, x, g))
}

fn multiply_with(kernels: Microkernels, x: Matrix<'_>, g: Matrix<'_>) -> Vec<f32> {
    if x.rows == 0 {
        return vec![0.0; x.columns * g.columns];
    }
    let tiles = Tiles { rows: x.columns, columns: g.columns, height: TILE.0, width: TILE.1 };
    let parts = (Tiles::FEW / tiles.count().max(1)).clamp(1, x.rows.div_ceil(PART));
    let depth = x.rows.div_ceil(parts);
    let parts = x.rows.div_ceil(depth);
    // SAFETY: the tiles cover each of the parts once, which lie below one another.
    let sums = unsafe {
        Product::make(parts * x.columns, g.columns, |out| {
            let tasks = (0..parts).flat_map(|part| tiles.starts().map(move |(row, column)| (part, row, column)));
            run(Tile, tiles.elements(x.rows), tasks, &Task { kernels, x, g, depth, out });
        })
    };
    if parts == 1 {
        return sums;
    }
    let mut sum = Fresh::new(x.columns * g.columns);
    run(Sum, sums.len(), sum.parts(CHUNK).enumerate(), &(sums.as_slice(), x.columns * g.columns));
    sum.into_vec()
}

/// What the tiles have in common.
struct Task<'a> {
    kernels: Microkernels,
    x: Matrix<'a>,
    g: Matrix<'a>,
    depth: usize,
    out: &'a Product<'a>,
}

kernel!(Tile = tile<'a>(Task<'a>, (usize, usize, usize)));
kernel!(Sum = sum<'a>((&'a [f32], usize), (usize, Part<'a>)));

thread_local! {
    /// The slivers and panels of the thread's last tile, whose memory serves the next one.
    static PACKED: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

#[inline(always)]
fn tile(task: &Task<'_>, (part, row, column): (usize, usize, usize)) {
    let start = part * task.depth;
    let depth = task.depth.min(task.x.rows - start);
    let x = task.x.columns(row, TILE.0.min(task.x.columns - row)).rows(start, depth);
    let g = task.g.columns(column, TILE.1.min(task.g.columns - column)).rows(start, depth);
    let row = part * task.x.columns + row;
    let mut packed = PACKED.take();
    // SAFETY: the part's tile belongs to this task alone.
    unsafe {
        match task.kernels.table.len() * task.kernels.lanes {
            16 => write::<16>(task, row, column, x, g, &mut packed),
            64 => write::<64>(task, row, column, x, g, &mut packed),
            width => unreachable!("microkernels of width {width}"),
        }
    }
    PACKED.set(packed);
}

/// Writes `xᵀ·g` where its first element is at `row` and `column`.
///
/// # Safety
/// No other task writes any of these elements.
#[inline(always)]
unsafe fn write<const WIDTH: usize>(
    task: &Task<'_>,
    row: usize,
    column: usize,
    x: Matrix<'_>,
    g: Matrix<'_>,
    [slivers, panels]: &mut [Vec<f32>; 2],
) {
    let (Microkernels { table, lanes }, out) = (task.kernels, task.out);
    assert!(row + x.columns <= out.rows && column + g.columns <= out.columns, "a product outside of its matrix");
    for start in (0..x.rows).step_by(DEPTH) {
        let depth = DEPTH.min(x.rows - start);
        let slivers = pack::<HEIGHT>(x.rows(start, depth), slivers);
        let panels = pack::<WIDTH>(g.rows(start, depth), panels);
        for (i, sliver) in slivers.enumerate() {
            let height = HEIGHT.min(x.columns - i * HEIGHT);
            for (j, panel) in panels.clone().enumerate() {
                let width = WIDTH.min(g.columns - j * WIDTH);
                let microkernel = table[width.div_ceil(lanes) - 1][height - 1];
                // SAFETY: the processor has the instructions (`Microkernels`). `panel` and `sliver` hold `depth` rows of
                // `WIDTH` and `HEIGHT` numbers, `height` times `width` elements of the result lie inside of it (asserted
                // above for all of the tile), and no other task writes them (the caller's contract). They are read only
                // where the rows before `start` were written.
                unsafe {
                    microkernel(
                        width,
                        height,
                        depth,
                        out.start.add((row + i * HEIGHT) * out.columns + column + j * WIDTH),
                        panel.as_ptr(),
                        sliver.as_ptr(),
                        out.columns as isize,
                        1,
                        WIDTH as isize,
                        HEIGHT as isize,
                        1,
                        1.0,
                        1.0,
                        u8::from(start > 0),
                        false,
                        false,
                        false,
                        std::ptr::null(),
                    );
                }
            }
        }
    }
}

/// The matrix in blocks of `W` columns, one behind the other, in the order of the rows; the last one is filled up with zeros.
#[inline(always)]
fn pack<'a, const W: usize>(matrix: Matrix<'_>, memory: &'a mut Vec<f32>) -> impl Iterator<Item = &'a [f32]> + Clone {
    // A line more than the block: blocks whose rows all fell into the same sets of a cache would push each other out.
    let (block, line) = (matrix.rows * W, 16);
    let (blocks, stride) = (matrix.columns.div_ceil(W), block + line);
    if memory.len() < blocks * stride + line {
        *memory = vec![0.0; blocks * stride + line];
    }
    let aligned = memory.as_ptr().align_offset(64).min(line);
    let memory = &mut memory[aligned..][..blocks * stride];
    for i in 0..matrix.rows {
        let (whole, rest) = matrix.numbers[i * matrix.row_stride..][..matrix.columns].as_chunks::<W>();
        let mut blocks = memory.chunks_exact_mut(stride).map(|block| &mut block[i * W..][..W]);
        for (numbers, block) in whole.iter().zip(&mut blocks) {
            block.copy_from_slice(numbers);
        }
        if let Some(block) = blocks.next() {
            block[..rest.len()].copy_from_slice(rest);
            block[rest.len()..].fill(0.0);
        }
    }
    memory.chunks_exact(stride).map(move |numbers| &numbers[..block])
}

#[inline(always)]
fn sum(&(sums, size): &(&[f32], usize), (number, part): (usize, Part<'_>)) {
    let out = part.clear();
    for sums in sums.chunks_exact(size) {
        out.iter_mut().zip(&sums[number * CHUNK..]).for_each(|(sum, x)| *sum += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * 7 % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        let kernels = [("AVX-512", Microkernels::avx512()), ("FMA", Microkernels::fma())];
        for (name, kernels) in kernels {
            let Some(kernels) = kernels else {
                println!("skipped: the processor has no {name}");
                continue;
            };
            for (depth, height, width) in [
                (0, 2, 3),
                (1, 1, 1),
                (2, 3, 5),
                (63, 7, 17),
                (257, 6, 64),
                (1000, 13, 70),
                (600, 260, 300),
                (400, 300, 3),
            ] {
                let (x, g) = (integers(depth * height, 0), integers(depth * width, 5));
                let out = multiply_with(kernels, Matrix::new(&x, height), Matrix::new(&g, width));
                assert_eq!(out.len(), height * width);
                for (place, sum) in out.iter().enumerate() {
                    let (i, j) = (place / width, place % width);
                    let expected: f32 = (0..depth).map(|t| x[t * height + i] * g[t * width + j]).sum();
                    assert_eq!(*sum, expected, "{name}: {depth}×{height}×{width} at {i}, {j}"); // small integers: exact
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_none_stay_in_their_rows_and_columns() {
        let (mut x, g) = (integers(300 * 20, 0), integers(300 * 30, 1));
        x[250 * 20 + 7] = f32::NAN;
        let Some(out) = multiply(Matrix::new(&x, 20), Matrix::new(&g, 30)) else {
            return println!("skipped: the processor has no FMA");
        };
        for (i, row) in out.chunks(30).enumerate() {
            assert!(row.iter().all(|sum| sum.is_nan() == (i == 7)), "row {i}");
        }
    }

    #[test]
    #[should_panic(expected = "matrices that do not fit")]
    fn lengths_are_checked() {
        let numbers = [0.0; 6];
        let _ = multiply(Matrix::new(&numbers, 3), Matrix::new(&numbers, 2));
    }
}
