//! Matrix products on slices: tiles by the `gemm` crate, each on one thread.
//!
//! `gemm` can spread a product over threads by itself, but leaves most of the second core idle where matrices are small:
//! measured, 100 GFLOP/s on two cores for `768 × 128 · 128 × 512`, and 215 in tiles (`BENCHMARKS.md`).

use super::{kernel, run};
use std::marker::PhantomData;

/// A matrix in a slice, which need not be row-major.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix of this width.
    ///
    /// # Panics
    /// When the slice is no whole number of rows.
    pub fn new(numbers: &'a [f32], columns: usize) -> Self {
        assert!(columns > 0 && numbers.len().is_multiple_of(columns), "rows of {columns} in {} floats", numbers.len());
        Self { numbers, rows: numbers.len() / columns, columns, row_stride: columns, column_stride: 1 }
    }

    /// How many rows it has.
    pub fn height(&self) -> usize {
        self.rows
    }

    /// How many columns it has.
    pub fn width(&self) -> usize {
        self.columns
    }

    /// The same numbers, transposed.
    pub fn transposed(self) -> Self {
        let Self { numbers, rows, columns, row_stride, column_stride } = self;
        Self { numbers, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// `len` rows from `start` on.
    ///
    /// # Panics
    /// When it has not so many.
    #[inline(always)]
    fn rows(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.rows);
        Self { numbers: &self.numbers[start * self.row_stride..], rows: len, ..self }
    }

    /// `len` columns from `start` on.
    ///
    /// # Panics
    /// When it has not so many.
    #[inline(always)]
    fn columns(self, start: usize, len: usize) -> Self {
        self.transposed().rows(start, len).transposed()
    }

    /// Whether the slice holds every element.
    #[inline(always)]
    fn fits(&self) -> bool {
        let last = self.rows.saturating_sub(1) * self.row_stride + self.columns.saturating_sub(1) * self.column_stride;
        self.rows == 0 || self.columns == 0 || last < self.numbers.len()
    }
}

/// A row-major matrix that does not hold numbers yet, and whose tiles are written by different tasks.
pub(in crate::ops) struct Product<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer comes from an exclusive borrow for `'a`, and `f32` may be written from any thread; that no two threads
// write the same element is the contract of `write`.
unsafe impl Send for Product<'_> {}
// SAFETY: as above; `write` is the only method that reaches the numbers.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// A new matrix of this size, every element of which `fill` has to [write](Self::write).
    ///
    /// # Safety
    /// When `fill` returns, every element was written.
    pub unsafe fn make(rows: usize, columns: usize, fill: impl FnOnce(&Product<'_>)) -> Vec<f32> {
        let mut numbers: Vec<f32> = Vec::with_capacity(rows * columns);
        fill(&Product { start: numbers.as_mut_ptr(), rows, columns, owner: PhantomData });
        // SAFETY: so many elements were allocated, and all of them written (the caller's contract).
        unsafe { numbers.set_len(rows * columns) };
        numbers
    }

    /// Writes `a·b`, computed on the calling thread, where its first element is at `row` and `column`.
    ///
    /// # Panics
    /// When the matrices do not fit each other or the place.
    ///
    /// # Safety
    /// No other task writes any of these elements.
    #[inline(always)]
    pub unsafe fn write(&self, row: usize, column: usize, a: Matrix<'_>, b: Matrix<'_>) {
        assert!(a.columns == b.rows && a.fits() && b.fits(), "matrices that do not fit");
        assert!(row + a.rows <= self.rows && column + b.columns <= self.columns, "a product outside of its matrix");
        if a.rows == 0 || b.columns == 0 {
            return;
        }
        // SAFETY: both slices hold every element that their sizes and strides reach, and the place lies inside the matrix
        // (asserted); no other task writes it (the caller's contract). With `read_dst` false it is only written.
        unsafe {
            gemm::gemm(
                a.rows,
                b.columns,
                a.columns,
                self.start.add(row * self.columns + column),
                1,
                self.columns as isize,
                false,
                a.numbers.as_ptr(),
                a.column_stride as isize,
                a.row_stride as isize,
                b.numbers.as_ptr(),
                b.column_stride as isize,
                b.row_stride as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

/// Products with additions below which a second thread does not pay.
const PARALLEL: usize = 1 << 19;

/// `a·b`, row-major, in tiles on all threads. The tiles depend on the sizes alone, so the result does not depend on the
/// threads.
///
/// # Panics
/// When the matrices do not fit each other.
pub(in crate::ops) fn multiply(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let (m, n, depth) = (a.rows, b.columns, a.columns);
    assert_eq!(depth, b.rows, "matrices that do not fit");
    let (height, width) = tile(&a, &b);
    // SAFETY: the tiles cover every element once.
    unsafe {
        Product::make(m, n, |out| {
            let starts = (0..m).step_by(height).flat_map(|row| (0..n).step_by(width).map(move |column| (row, column)));
            let elements = if m * n * depth < PARALLEL { 0 } else { usize::MAX };
            run(Tile, elements, starts, &(a, b, (height, width), out));
        })
    }
}

/// Rows and columns of a tile. `gemm` copies both factors into an order of its own, once a tile. A factor that is
/// row-major is cheap to copy, so tiles are bands of rows; copying a transposed `b` costs most, so tiles are then bands of
/// columns, which copy each part of it once. A transposed `a` is that of a weight's gradient: its sums are as long as the
/// batch, and wide tiles copy less for each of them.
fn tile(a: &Matrix<'_>, b: &Matrix<'_>) -> (usize, usize) {
    if b.column_stride == 1 && a.column_stride == 1 {
        (a.rows.div_ceil(8).next_multiple_of(32).clamp(64, 512), 1024)
    } else if b.column_stride == 1 {
        (a.rows.div_ceil(4).next_multiple_of(32).clamp(64, 128), 256)
    } else {
        (1024, 64)
    }
}

/// The factors, the size of a tile, and the result.
type Task<'a> = (Matrix<'a>, Matrix<'a>, (usize, usize), &'a Product<'a>);

kernel!(Tile = multiply_tile<'a>(Task<'a>, (usize, usize)));

#[inline(always)]
fn multiply_tile(&(a, b, (height, width), out): &Task<'_>, (row, column): (usize, usize)) {
    let (height, width) = (height.min(a.rows - row), width.min(b.columns - column));
    // SAFETY: the tile that starts here belongs to this task alone.
    unsafe { out.write(row, column, a.rows(row, height), b.columns(column, width)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every sum is exact.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * 7 % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let sizes = [(1, 1, 1), (3, 5, 7), (17, 64, 33), (70, 9, 128), (700, 130, 65), (130, 700, 40), (1100, 70, 9)];
        for (m, n, depth) in sizes {
            let (a, b) = (integers(m * depth, 0), integers(depth * n, 5));
            for (turned_a, turned_b) in [(false, false), (false, true), (true, false), (true, true)] {
                let of = |numbers, rows, columns, turned: bool| match turned {
                    false => Matrix::new(numbers, columns),
                    true => Matrix::new(numbers, rows).transposed(),
                };
                let out = multiply(of(&a, m, depth, turned_a), of(&b, depth, n, turned_b));
                assert_eq!(out.len(), m * n);
                for (i, x) in out.iter().enumerate() {
                    let (row, column) = (i / n, i % n);
                    let at_a = |k: usize| if turned_a { a[k * m + row] } else { a[row * depth + k] };
                    let at_b = |k: usize| if turned_b { b[column * depth + k] } else { b[k * n + column] };
                    assert_eq!(*x, (0..depth).map(|k| at_a(k) * at_b(k)).sum::<f32>(), "{m}×{n}×{depth} at {i}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrices that do not fit")]
    fn lengths_are_checked() {
        multiply(Matrix::new(&[0.0; 6], 3), Matrix::new(&[0.0; 6], 3));
    }

    #[test]
    #[should_panic(expected = "a product outside of its matrix")]
    fn places_are_checked() {
        let numbers = [1.0; 4];
        let (a, b) = (Matrix::new(&numbers, 2), Matrix::new(&numbers, 2));
        // SAFETY: it panics before the matrix is taken for whole.
        let _ = unsafe { Product::make(2, 2, |out| out.write(1, 0, a, b)) };
    }
}
