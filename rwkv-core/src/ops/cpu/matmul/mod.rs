//! Matrix products on slices: tiles, each on one thread (`tile.rs`), in a few sizes for a few kinds of factors.
//!
//! A product of a step of training is small: spread over threads as a whole, it leaves most of the second core idle
//! (`BENCHMARKS.md`). In tiles every thread multiplies alone and takes the next tile when it is done.

#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), path = "amx/absent.rs")]
mod amx;
mod few;
mod microkernel;
mod pack;
mod tile;

use super::fresh::{Fresh, Part};
use super::{CHUNK, kernel, run};
use amx::Number;
use microkernel::HEIGHT;
use pulp::Simd;
use std::marker::PhantomData;

/// A matrix in a slice, which need not be row-major.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Matrix<'a, T = f32> {
    numbers: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A row-major matrix of this width.
    ///
    /// # Panics
    /// When the slice is no whole number of rows.
    pub fn new(numbers: &'a [T], columns: usize) -> Self {
        assert!(columns > 0 && numbers.len().is_multiple_of(columns), "rows of {columns} in {} numbers", numbers.len());
        Self { numbers, rows: numbers.len() / columns, columns, row_stride: columns, column_stride: 1 }
    }

    /// How many rows it has.
    pub fn height(&self) -> usize {
        self.rows
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
        Self { numbers: self.numbers.get(start * self.row_stride..).unwrap_or_default(), rows: len, ..self }
    }

    /// `len` columns from `start` on.
    ///
    /// # Panics
    /// When it has not so many.
    #[inline(always)]
    fn columns(self, start: usize, len: usize) -> Self {
        self.transposed().rows(start, len).transposed()
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
// SAFETY: as above; only writing of tiles reaches the numbers.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// A new matrix of this size, every element of which `fill` has to [write](Self::write).
    ///
    /// # Panics
    /// When no memory has so many elements.
    ///
    /// # Safety
    /// When `fill` returns, every element was written.
    pub unsafe fn make(rows: usize, columns: usize, fill: impl FnOnce(&Product<'_>)) -> Vec<f32> {
        let size = rows.checked_mul(columns).expect("a matrix of more elements than memory has");
        let mut numbers: Vec<f32> = Vec::with_capacity(size);
        fill(&Product { start: numbers.as_mut_ptr(), rows, columns, owner: PhantomData });
        // SAFETY: so many elements were allocated, and all of them written (the caller's contract).
        unsafe { numbers.set_len(size) };
        numbers
    }
}

/// Additions of a product below which a second thread does not pay.
const PARALLEL: usize = 1 << 19;

/// How a product is cut into tasks. Parts depend on the sizes alone, and so does what is added in which order.
#[derive(Clone, Copy)]
struct Tasks {
    rows: usize,
    columns: usize,
    /// Of a tile.
    height: usize,
    width: usize,
    /// The sums' parts, and the length of each but the last.
    parts: usize,
    depth: usize,
}

impl Tasks {
    /// As many tasks as keep a few threads busy.
    const FEW: usize = 8;

    /// Depth that a part has at least, or begins.
    const PART: usize = 192;

    fn of(a: &Matrix<'_>, b: &Matrix<'_>) -> Self {
        let (rows, columns, depth) = (a.rows, b.columns, a.columns);
        if a.column_stride == 1 {
            // The first factor is read as it is, the second one copied once a tile: tiles are as high as their number allows.
            let width = 128;
            let bands = Self::FEW.div_ceil(columns.div_ceil(width).max(1));
            let height = rows.div_ceil(bands).next_multiple_of(4 * HEIGHT).clamp(12 * HEIGHT, 172 * HEIGHT);
            return Self { rows, columns, height, width, parts: 1, depth };
        }
        // Both factors are copied: tiles are as large as the second cache allows. Where a gradient of a weight has few of
        // them, there are many rows to sum over, and so parts of the sums.
        let (height, width) = (43 * HEIGHT, 256);
        let tiles = rows.div_ceil(height) * columns.div_ceil(width);
        let parts = (Self::FEW / tiles.max(1)).clamp(1, depth.div_ceil(Self::PART).max(1));
        let part = depth.div_ceil(parts).max(1);
        Self { rows, columns, height, width, parts: depth.div_ceil(part).max(1), depth: part }
    }

    /// Part, row and column of each task's first element.
    fn starts(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let columns = move || (0..self.columns).step_by(self.width);
        let tiles =
            move || (0..self.rows).step_by(self.height).flat_map(move |row| columns().map(move |column| (row, column)));
        (0..self.parts).flat_map(move |part| tiles().map(move |(row, column)| (part, row, column)))
    }

    /// Where the product of such a task lies, parts below one another, and its factors.
    #[inline(always)]
    fn tile<'a, A: Copy, B: Copy>(
        self,
        a: Matrix<'a, A>,
        b: Matrix<'a, B>,
        (part, row, column): (usize, usize, usize),
    ) -> (usize, usize, Matrix<'a, A>, Matrix<'a, B>) {
        let start = part * self.depth;
        let depth = self.depth.min(a.columns - start);
        let (height, width) = (self.height.min(a.rows - row), self.width.min(b.columns - column));
        let (a, b) = (a.rows(row, height).columns(start, depth), b.columns(column, width).rows(start, depth));
        (part * self.rows + row, column, a, b)
    }

    /// The product, of that of each part.
    fn sum(self, parts: Vec<f32>) -> Vec<f32> {
        if self.parts == 1 {
            return parts;
        }
        let size = self.rows * self.columns;
        let mut sum = Fresh::new(size);
        run(Sum, parts.len(), sum.parts(CHUNK).enumerate(), &(parts.as_slice(), size));
        sum.into_vec()
    }
}

/// `a·b`, row-major, in tiles on all threads. Every element is the sum of the same products in the same order whatever the
/// threads.
///
/// # Panics
/// When the matrices do not fit each other.
pub(in crate::ops) fn multiply(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    amx::multiply(a, b).unwrap_or_else(|| multiply_by_vectors(a, b))
}

/// Whether the processor has a matrix unit, so that [`multiply_by_unit`] is worth getting ready for.
pub(in crate::ops) fn has_unit() -> bool {
    amx::is_there()
}

/// `a·b` for factors of fewer bits by the processor's matrix unit, where it has one and they are for it: no infinity or NaN,
/// and enough of them.
///
/// # Panics
/// As [`multiply`].
pub(in crate::ops) fn multiply_by_unit<A: Number, B: Number>(a: Matrix<'_, A>, b: Matrix<'_, B>) -> Option<Vec<f32>> {
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    amx::multiply(a, b)
}

/// [`multiply`] on the processor's vectors.
fn multiply_by_vectors(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let tasks = Tasks::of(&a, &b);
    // What `run` is told that a product touches: few additions are not worth a second thread.
    let additions = a.rows.saturating_mul(b.columns).saturating_mul(a.columns);
    let elements = if additions < PARALLEL { 0 } else { usize::MAX };
    // SAFETY: the tiles cover each of the parts once, which lie below one another.
    let sums = unsafe {
        Product::make(tasks.parts.saturating_mul(a.rows), b.columns, |out| {
            run(Tile, elements, tasks.starts(), &(a, b, tasks, out));
        })
    };
    tasks.sum(sums)
}

/// The factors, how the product is cut, and the product.
type Shared<'a> = (Matrix<'a>, Matrix<'a>, Tasks, &'a Product<'a>);

kernel!(Tile on simd = multiply_tile<'a>(Shared<'a>, (usize, usize, usize)));
kernel!(Sum = sum<'a>((&'a [f32], usize), (usize, Part<'a>)));

#[inline(always)]
fn multiply_tile<S: Simd>(simd: S, &(a, b, tasks, out): &Shared<'_>, start: (usize, usize, usize)) {
    let (row, column, a, b) = tasks.tile(a, b, start);
    // SAFETY: the part's tile that starts here belongs to this task alone.
    unsafe { out.write(simd, row, column, a, b) };
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
    use crate::ops::cpu::with_every_instruction_set;

    /// Small integers: every sum is exact.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * 7 % 23) as f32 - 11.0).collect()
    }

    /// Two factors of these sizes that hold integers, and what their product is by the definition.
    fn check(m: usize, n: usize, depth: usize, product: impl Fn(Matrix<'_>, Matrix<'_>) -> Vec<f32>) {
        let (a, b) = (integers(m * depth, 0), integers(depth * n, 5));
        for (turned_a, turned_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let of = |numbers, rows, columns, turned: bool| match turned {
                false => Matrix::new(numbers, columns),
                true => Matrix::new(numbers, rows).transposed(),
            };
            let out = product(of(&a, m, depth, turned_a), of(&b, depth, n, turned_b));
            assert_eq!(out.len(), m * n);
            for (i, x) in out.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let at_a = |k: usize| if turned_a { a[k * m + row] } else { a[row * depth + k] };
                let at_b = |k: usize| if turned_b { b[column * depth + k] } else { b[k * n + column] };
                assert_eq!(*x, (0..depth).map(|k| at_a(k) * at_b(k)).sum::<f32>(), "{m}×{n}×{depth} at {i}");
            }
        }
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let sizes = [(1, 1, 1), (3, 5, 7), (17, 64, 33), (70, 9, 128), (700, 130, 65), (130, 700, 40), (1100, 70, 9)];
        for (m, n, depth) in sizes.into_iter().chain([(300, 3, 400), (13, 70, 1000), (260, 300, 600)]) {
            check(m, n, depth, multiply);
            check(m, n, depth, multiply_by_vectors);
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        fn on(_: &str, simd: impl Simd) {
            let sizes = [(1, 1, 1), (1, 70, 300), (2, 131, 65), (6, 64, 256), (7, 65, 257), (12, 16, 3), (9, 8, 300)];
            for (m, n, depth) in sizes.into_iter().chain([(23, 200, 600)]) {
                check(m, n, depth, |a, b| {
                    // SAFETY: the whole matrix is written.
                    unsafe { Product::make(m, n, |out| simd.vectorize(One(a, b, out))) }
                });
            }
        }
        struct One<'a>(Matrix<'a>, Matrix<'a>, &'a Product<'a>);
        impl pulp::WithSimd for One<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                // SAFETY: there is no other task.
                unsafe { self.2.write(simd, 0, 0, self.0, self.1) }
            }
        }
        with_every_instruction_set!(on);
    }

    #[test]
    fn a_sum_of_nothing_is_zero() {
        let out = multiply(Matrix::new(&[], 3).transposed(), Matrix::new(&[], 2));
        assert_eq!(out, [0.0; 6]);
        let out = multiply(Matrix::new(&[], 300).transposed(), Matrix::new(&[], 300));
        assert_eq!(out, vec![0.0; 300 * 300]);
        assert!(multiply(Matrix::new(&[], 3), Matrix::new(&[1.0; 6], 2)).is_empty());
    }

    #[test]
    fn sizes_are_checked() {
        let none =
            std::panic::catch_unwind(|| multiply(Matrix::new(&[], 1 << 33).transposed(), Matrix::new(&[], 1 << 33)));
        assert!(none.is_err(), "2⁶⁶ zeros fit into no memory");
    }

    #[test]
    fn numbers_that_are_none_stay_in_their_rows_and_columns() {
        let (m, n, depth) = (20, 35, 300);
        let (a, b) = (integers(m * depth, 0), integers(depth * n, 1));
        for (turned_a, turned_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let of = |numbers, rows, columns, turned: bool| match turned {
                false => Matrix::new(numbers, columns),
                true => Matrix::new(numbers, rows).transposed(),
            };
            let mut broken = a.clone();
            broken[if turned_a { 250 * m + 7 } else { 7 * depth + 250 }] = f32::NAN;
            let out = multiply(of(&broken, m, depth, turned_a), of(&b, depth, n, turned_b));
            assert!(out.iter().enumerate().all(|(i, x)| x.is_nan() == (i / n == 7)), "{turned_a}, {turned_b}");
            let mut broken = b.clone();
            broken[if turned_b { 33 * depth + 250 } else { 250 * n + 33 }] = f32::NAN;
            let out = multiply(of(&a, m, depth, turned_a), of(&broken, depth, n, turned_b));
            assert!(out.iter().enumerate().all(|(i, x)| x.is_nan() == (i % n == 33)), "{turned_a}, {turned_b}");
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
        let _ = unsafe { Product::make(2, 2, |out| out.write(pulp::Scalar, 1, 0, a, b)) };
    }
}
