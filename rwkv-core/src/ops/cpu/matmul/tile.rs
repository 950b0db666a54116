//! A tile of a product, on one thread: the second factor in panels that stay in the second cache, the first one a few rows
//! at a time.
//!
//! Rows of the first factor that lie in memory are read as they are, and those that come next are asked for while the
//! panels pass: an activation of another layer is far away, and one sees it through this loop for the first time. Where its
//! columns lie in memory (the gradient of a weight), both factors are copied row by row. Either way every element is a sum
//! in the order of the depth, in blocks of it, whatever the processor and the tiles; but for a row or two (`few.rs`).

use super::microkernel::{HEIGHT, Rows, Target, Times};
use super::pack::{LINE, pack};
use super::{Matrix, Product, few};
use crate::ops::cpu::prefetch::prefetch;
use pulp::Simd;
use std::cell::Cell;
use std::ops::Range;

/// Numbers of the depth that are multiplied before the next ones are: a panel of them and a few rows stay in the first
/// cache, and what a tile needs of them in the second.
const DEPTH: usize = 256;

thread_local! {
    /// The panels and slivers of the thread's last tile, whose memory serves the next one.
    static PACKED: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

impl Product<'_> {
    /// Writes `a·b`, computed on the calling thread, where its first element is at `row` and `column`.
    ///
    /// # Panics
    /// When the matrices do not fit each other or the place.
    ///
    /// # Safety
    /// No other task writes any of these elements.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, simd: S, row: usize, column: usize, a: Matrix<'_>, b: Matrix<'_>) {
        assert_eq!(a.columns, b.rows, "matrices that do not fit");
        assert!(row + a.rows <= self.rows && column + b.columns <= self.columns, "a product outside of its matrix");
        let place = (self, row, column);
        if few::are_few(&a) {
            // SAFETY: as below.
            return unsafe { few::write(simd, place, a, b) };
        }
        let mut packed = PACKED.take();
        // SAFETY: the place lies inside of the matrix (asserted), and no other task writes it (the caller's contract).
        unsafe {
            // As many sums as registers hold, beside a panel's row and a number. Without vectors it is for the compiler to
            // find some.
            match (S::F32_LANES, S::REGISTER_COUNT) {
                (16, _) => write::<S, 4, 64>(simd, place, a, b, &mut packed),
                (8, _) => write::<S, 2, 16>(simd, place, a, b, &mut packed),
                (4, 32) => write::<S, 4, 16>(simd, place, a, b, &mut packed),
                (4, _) => write::<S, 2, 8>(simd, place, a, b, &mut packed),
                (1, _) => write::<S, 8, 8>(simd, place, a, b, &mut packed),
                (lanes, _) => unreachable!("vectors of {lanes} numbers"),
            }
        }
        PACKED.set(packed);
    }
}

/// [`Product::write`] with `V` vectors, `W` numbers, in a panel's row.
///
/// # Safety
/// The tile lies inside of the matrix, and no other task writes any of its elements.
#[inline(always)]
unsafe fn write<S: Simd, const V: usize, const W: usize>(
    simd: S,
    (out, row, column): (&Product<'_>, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    [panels, slivers]: &mut [Vec<f32>; 2],
) {
    let blocks = a.columns.div_ceil(DEPTH).max(1); // a sum of nothing is written, too
    let depth = a.columns.div_ceil(blocks);
    for start in (0..blocks).map(|block| block * depth) {
        let depth = depth.min(a.columns - start);
        let a = a.columns(start, depth);
        let panels = pack::<W>(b.rows(start, depth), panels);
        let target = |i: usize, j: usize| Target {
            // SAFETY: the element lies inside of the matrix (the caller's contract).
            start: unsafe { out.start.add((row + i) * out.columns + column + j * W) },
            stride: out.columns,
            width: W.min(b.columns - j * W),
            add: start > 0,
        };
        if a.column_stride == 1 {
            let count = b.columns.div_ceil(W);
            for i in (0..a.rows).step_by(HEIGHT) {
                let height = HEIGHT.min(a.rows - i);
                let rows = &a.numbers[i * a.row_stride..];
                let next = i + height..a.rows.min(i + height + HEIGHT);
                for (j, panel) in panels.clone().enumerate() {
                    fetch(a, next.clone(), depth * j / count..depth * (j + 1) / count);
                    // SAFETY: `height` rows of `width` elements from here on lie inside of the tile, and they were written
                    // where `start` is not the first block's.
                    unsafe { times::<S, V>(simd, height, Rows::Apart(rows, a.row_stride), panel, target(i, j)) };
                }
            }
        } else {
            for (i, sliver) in pack::<HEIGHT>(a.transposed(), slivers).enumerate() {
                let height = HEIGHT.min(a.rows - i * HEIGHT);
                for (j, panel) in panels.clone().enumerate() {
                    // SAFETY: as above.
                    unsafe { times::<S, V>(simd, height, Rows::Sliver(sliver), panel, target(i * HEIGHT, j)) };
                }
            }
        }
    }
}

/// Asks for these columns of these rows.
#[inline(always)]
fn fetch(a: Matrix<'_>, rows: Range<usize>, columns: Range<usize>) {
    for row in rows {
        for column in columns.clone().step_by(LINE) {
            prefetch(a.numbers.as_ptr().wrapping_add(row * a.row_stride + column));
        }
    }
}

/// Writes the products of the first `height` rows with the panel, `V` vectors a row.
///
/// # Safety
/// `height` rows of `target.width` elements may be written from `target.start` on; they were where `target.add`.
#[inline(always)]
unsafe fn times<S: Simd, const V: usize>(simd: S, height: usize, rows: Rows<'_>, panel: &[f32], target: Target) {
    // Adapters have few columns: their products need not fill a panel.
    let narrow = target.width <= S::F32_LANES;
    macro_rules! write {
        ($($height:literal),*) => {
            match height {
                // SAFETY: the caller's contract; the value is gone at once.
                $($height if narrow => unsafe { Times::<$height, V, 1>::new(rows, panel, target) }.write(simd),
                // SAFETY: as above.
                $height => unsafe { Times::<$height, V, V>::new(rows, panel, target) }.write(simd),)*
                _ => unreachable!("{height} rows at once"),
            }
        };
    }
    write!(1, 2, 3, 4, 5, 6);
}
