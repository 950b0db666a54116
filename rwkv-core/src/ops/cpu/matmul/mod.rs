//! Matrix products on slices: tiles by the `gemm` crate, each on one thread.
//!
//! `gemm` can spread a product over threads by itself, but leaves most of the second core idle where matrices are small:
//! measured, 100 GFLOP/s on two cores for `768 × 128 · 128 × 512`, and 215 in tiles (`BENCHMARKS.md`).

#[cfg(target_arch = "x86_64")]
mod outer;

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
// write the same element is the contract of both `write`s.
unsafe impl Send for Product<'_> {}
// SAFETY: as above; only `write`, here and in `outer`, reaches the numbers.
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

/// Additions of a product below which a second thread does not pay.
const PARALLEL: usize = 1 << 19;

/// How a result is cut into tiles, which depends on its size alone.
#[derive(Clone, Copy)]
struct Tiles {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
}

impl Tiles {
    /// As many tiles as keep a few threads busy.
    const FEW: usize = 8;

    /// Columns of a tile: so many of the second factor stay in the second cache.
    const WIDTH: usize = 128;

    /// The tiles of `a·b`. `gemm` copies the second factor into an order of its own, once a tile, and reads a row-major
    /// first one as it is: so tiles are as high as the number of tiles allows.
    fn of_product(a: &Matrix<'_>, b: &Matrix<'_>) -> Self {
        let bands = Self::FEW.div_ceil(b.columns.div_ceil(Self::WIDTH).max(1));
        let height = a.rows.div_ceil(bands).next_multiple_of(24).clamp(72, 1032);
        Self { rows: a.rows, columns: b.columns, height, width: Self::WIDTH }
    }

    #[cfg(target_arch = "x86_64")]
    fn count(self) -> usize {
        self.rows.div_ceil(self.height) * self.columns.div_ceil(self.width)
    }

    /// Row and column of each tile's first element.
    fn starts(self) -> impl Iterator<Item = (usize, usize)> {
        let columns = move || (0..self.columns).step_by(self.width);
        (0..self.rows).step_by(self.height).flat_map(move |row| columns().map(move |column| (row, column)))
    }

    /// What [`run`] is told that a product of this depth touches: few additions are not worth a second thread.
    fn elements(self, depth: usize) -> usize {
        if self.rows * self.columns * depth < PARALLEL { 0 } else { usize::MAX }
    }
}

/// `a·b`, row-major, in tiles on all threads. The tiles depend on the sizes alone, so the result does not depend on the
/// threads.
///
/// # Panics
/// When the matrices do not fit each other.
pub(in crate::ops) fn multiply(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    #[cfg(target_arch = "x86_64")]
    if a.row_stride == 1
        && b.column_stride == 1
        && let Some(out) = outer::multiply(a.transposed(), b)
    {
        return out;
    }
    in_tiles(a, b)
}

fn in_tiles(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    if a.columns == 0 {
        return vec![0.0; a.rows * b.columns];
    }
    let tiles = Tiles::of_product(&a, &b);
    // SAFETY: the tiles cover every element once.
    unsafe {
        Product::make(a.rows, b.columns, |out| {
            run(Tile, tiles.elements(a.columns), tiles.starts(), &(a, b, tiles, out));
        })
    }
}

/// The factors, how the result is cut, and the result.
type Task<'a> = (Matrix<'a>, Matrix<'a>, Tiles, &'a Product<'a>);

kernel!(Tile = multiply_tile<'a>(Task<'a>, (usize, usize)));

#[inline(always)]
fn multiply_tile(&(a, b, tiles, out): &Task<'_>, (row, column): (usize, usize)) {
    let (height, width) = (tiles.height.min(a.rows - row), tiles.width.min(b.columns - column));
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
                let (left, right) = (of(&a, m, depth, turned_a), of(&b, depth, n, turned_b));
                let out = multiply(left, right);
                assert_eq!(out.len(), m * n);
                assert_eq!(out, in_tiles(left, right)); // other processors' way for all of them
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
