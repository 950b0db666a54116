//! Factors split into `bf16`, in the order in which the unit's registers take them.

use super::kernel::{ROWS, SIDE, STEP, Tile};
use super::number::{Number, PARTS};
use super::{Amx, Matrix};
use crate::ops::cpu::prefetch::prefetch;
use crate::ops::cpu::transpose::transposed;
use std::arch::x86_64::*;

/// How the unit takes a factor: the first one row by row, the second one a pair of the depth after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Rows,
    Columns,
}

/// The parts of a matrix, 32 rows by 32 rows (*a side*); of a side step by step, of a step sixteen rows after the other.
#[derive(Default)]
pub(super) struct Packed {
    tiles: Vec<Tile>,
    steps: usize,
}

impl Packed {
    pub const fn new() -> Self {
        Self { tiles: Vec::new(), steps: 0 }
    }

    /// Rows `row .. row + 32`.
    pub fn side<N: Number>(&self, row: usize) -> &[Tile] {
        let size = 2 * N::PARTS * self.steps;
        &self.tiles[row / SIDE * size..][..size]
    }

    /// Splits the matrix, rows by depth; `false` where a number is not moderate ([`Number::are_moderate`]).
    pub fn split<N: Number>(&mut self, _: Amx, matrix: Matrix<'_, N>, form: Form) -> bool {
        self.steps = matrix.columns.div_ceil(STEP);
        let size = matrix.rows.div_ceil(SIDE) * self.steps * 2 * N::PARTS;
        if self.tiles.len() < size {
            self.tiles = Vec::new(); // first, so that not both are held
            self.tiles = vec![Tile([[0; ROWS]; ROWS]); size];
        }
        // SAFETY: where AMX is, these are (`Amx::get`).
        unsafe { split(matrix, form, self.steps, &mut self.tiles[..size]) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn split<N: Number>(matrix: Matrix<'_, N>, form: Form, steps: usize, tiles: &mut [Tile]) -> bool {
    let along = matrix.column_stride == 1;
    let mut largest = _mm512_setzero_si512();
    let mut copy = [N::ZERO; ROWS * STEP];
    for (block, tiles) in tiles.chunks_exact_mut(N::PARTS).enumerate() {
        let (side, step, half) = (block / 2 / steps, block / 2 % steps, block % 2);
        let lines = Lines::new(matrix, side * SIDE + half * ROWS, step * STEP, &mut copy);
        match (along, along == (form == Form::Columns)) {
            (true, true) => lines.split::<true, true>(tiles, &mut largest),
            (true, false) => lines.split::<true, false>(tiles, &mut largest),
            (false, true) => lines.split::<false, true>(tiles, &mut largest),
            (false, false) => lines.split::<false, false>(tiles, &mut largest),
        }
    }
    // SAFETY: these vectors are there (this function's features).
    unsafe { N::are_moderate(largest) }
}

/// Sixteen rows of a step: sixteen lines of 32 neighbouring numbers, or, where columns lie in memory, 32 of sixteen.
struct Lines<'a, N> {
    numbers: &'a [N],
    /// From a line to the next one.
    stride: usize,
    /// From a line to that of the next step.
    next: usize,
}

impl<'a, N: Number> Lines<'a, N> {
    /// The lines of these rows from `depth` on. Where the matrix ends before they do, they are copied and filled up with zeros.
    #[inline]
    fn new(matrix: Matrix<'a, N>, row: usize, depth: usize, copy: &'a mut [N; ROWS * STEP]) -> Self {
        let Matrix { numbers, row_stride, column_stride, .. } = matrix;
        let along = column_stride == 1;
        debug_assert!(along || row_stride == 1, "a matrix has its rows in memory or its columns");
        if row + ROWS <= matrix.rows && depth + STEP <= matrix.columns {
            let numbers = &numbers[row * row_stride + depth * column_stride..];
            return Self {
                numbers,
                stride: if along { row_stride } else { column_stride },
                next: STEP * column_stride,
            };
        }
        copy.fill(N::ZERO);
        let (row_of_copy, column_of_copy) = if along { (STEP, 1) } else { (1, ROWS) };
        for i in row..matrix.rows.min(row + ROWS) {
            for k in depth..matrix.columns.min(depth + STEP) {
                copy[(i - row) * row_of_copy + (k - depth) * column_of_copy] =
                    numbers[i * row_stride + k * column_stride];
            }
        }
        Self { numbers: copy, stride: if along { STEP } else { ROWS }, next: 0 }
    }

    /// Their parts, a tile each: what comes of a line or two as a row, or as a column.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn split<const ALONG: bool, const TURNED: bool>(&self, tiles: &mut [Tile], largest: &mut __m512i) {
        let Self { numbers, stride, next } = *self;
        let (count, width) = if ALONG { (ROWS, STEP) } else { (STEP, ROWS) };
        assert!((count - 1) * stride + width <= numbers.len());
        let mut lines = [[_mm512_setzero_si512(); ROWS]; PARTS];
        for i in 0..ROWS {
            // SAFETY: the lines lie in the slice (asserted), and these vectors are there (this function's features).
            let parts = unsafe {
                if ALONG {
                    let line = numbers.as_ptr().add(i * stride);
                    prefetch(line.wrapping_add(next));
                    prefetch(line.wrapping_add(next + ROWS));
                    N::along(line, largest)
                } else {
                    let line = numbers.as_ptr().add(2 * i * stride);
                    prefetch(line.wrapping_add(next));
                    prefetch(line.wrapping_add(next + stride));
                    N::across([line, line.add(stride)], largest)
                }
            };
            for ((tile, lines), part) in tiles.iter_mut().zip(&mut lines).zip(parts) {
                if TURNED {
                    lines[i] = part;
                } else {
                    store(&mut tile.0[i], part);
                }
            }
        }
        if TURNED {
            for (tile, lines) in tiles.iter_mut().zip(&lines) {
                for (row, line) in tile.0.iter_mut().zip(transposed(lines)) {
                    store(row, line);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(row: &mut [u32; ROWS], line: __m512i) {
    // SAFETY: the row has the 64 bytes of a vector.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), line) };
}
