//! Products by AMX, the processor's matrix unit: `bf16` by `bf16`, 32 × 32 sums in `f32` at once.
//!
//! An `f32` is the sum of three `bf16` (8 bits of its 24 each), so a product of two is the sum of nine of theirs, the three
//! smallest of which are below the rounding of the `f32` product: `x·y ≈ x₀y₀ + x₀y₁ + x₁y₀ + x₀y₂ + x₁y₁ + x₂y₀`. Six
//! instructions instead of one, and still whole products are 1.3 to 1.9 times as fast as on the vectors (`BENCHMARKS.md`).
//! Where a factor is `bf16` to begin with, three are exact, and where both are, one is.
//!
//! # Accuracy
//! What is left out is at most 2⁻²⁴ of `|x·y|`, which is what `f32` rounds at most, and the unit adds up to 16 products in a
//! chain before it adds to a sum, so sums are as exact as those of `f32` (tested beside them). Numbers, products and sums
//! below 2⁻¹²⁶ are zeros to it: of a product below 2⁻¹⁰⁹ the small parts are lost. Factors that are not finite, or from 2⁶²
//! on, are not for it: products of parts might be infinite with different signs, and their sum NaN.
//!
//! # Cost
//! A step of the inner loop, 32 of the depth, loads 14 tiles of 1 KiB and multiplies 24 times for 32 × 32 sums of `f32`; 8 and 12
//! where one factor is `bf16`, 4 and 4 where both are. Factors are split once for each tile of the product, so tiles are
//! large.

mod kernel;
mod number;
mod pack;
mod processor;

pub(in crate::ops) use number::Number;

use super::{Matrix, PARALLEL, Product, Tasks};
use crate::ops::cpu::{Kernel, run};
use kernel::{SIDE, Sums};
use number::PARTS;
use pack::{Form, Packed};
use processor::Amx;
use pulp::Simd;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Numbers of the depth that are multiplied before the next ones are: 32 rows and 32 columns of them stay in the first cache,
/// a tile's in the second.
const DEPTH: usize = 128;

/// Rows of a tile, at most, and columns of it that are split at a time.
const HEIGHT: usize = 1024;
const BAND: usize = 512;

/// What a number's part costs to split, in products of the unit.
const SPLIT: usize = 128;

/// Whether the processor has the unit.
pub(super) fn is_there() -> bool {
    Amx::get().is_some()
}

/// `a·b`, where there is such a unit, it is worth using, and the factors are for it.
pub(super) fn multiply<A: Number, B: Number>(a: Matrix<'_, A>, b: Matrix<'_, B>) -> Option<Vec<f32>> {
    const { assert!(A::PARTS == PARTS && B::PARTS <= PARTS || A::PARTS == 1 && B::PARTS == 1, "kinds without a kernel") };
    let additions = a.rows.saturating_mul(b.columns).saturating_mul(a.columns);
    // Of a narrow factor most that the unit multiplies would be zeros, and to split a weight takes as long as the vectors
    // multiply it with a few rows.
    let narrow = b.columns.min(a.columns) < SIDE || B::PARTS == PARTS && a.rows < SIDE;
    if narrow || additions < PARALLEL {
        return None;
    }
    let amx = Amx::get()?;
    let tasks = tasks(a, b);
    let refused = AtomicBool::new(false);
    // SAFETY: the tiles cover the matrix, and each is written, of use or not.
    let out = unsafe {
        Product::make(a.rows, b.columns, |out| {
            run(Tile, usize::MAX, tasks.starts(), &(a, b, tasks, amx, out, &refused));
        })
    };
    (!refused.into_inner()).then_some(out)
}

/// Tasks of shapes with which all threads are done soonest.
fn tasks<A: Number, B: Number>(a: Matrix<'_, A>, b: Matrix<'_, B>) -> Tasks {
    let (rows, columns, depth) = (a.rows, b.columns, a.columns);
    let threads = rayon::current_num_threads();
    let sizes = (0..6).map(|halvings| {
        let width = columns.div_ceil(1 << halvings).next_multiple_of(SIDE);
        let bands = threads.div_ceil(columns.div_ceil(width));
        (rows.div_ceil(bands).next_multiple_of(SIDE).min(HEIGHT), width)
    });
    let products = (0..A::PARTS).map(|part| B::PARTS.min(PARTS - part)).sum::<usize>();
    let cost = |&(height, width): &(usize, usize)| {
        let rounds = (rows.div_ceil(height) * columns.div_ceil(width)).div_ceil(threads);
        rounds * (height * width * products + SPLIT * (A::PARTS * height + B::PARTS * width))
    };
    let (height, width) = sizes.min_by_key(cost).unwrap_or((SIDE, SIDE));
    Tasks { rows, columns, height, width, parts: 1, depth }
}

/// The factors, how the product is cut, the unit, the product, and whether a factor turned out not to be for the unit.
type Shared<'a, A, B> = (Matrix<'a, A>, Matrix<'a, B>, Tasks, Amx, &'a Product<'a>, &'a AtomicBool);

struct Tile;

impl<A: Number, B: Number> Kernel<Shared<'_, A, B>, (usize, usize, usize)> for Tile {
    #[inline(always)]
    fn run<S: Simd>(_: S, &(a, b, tasks, amx, out, refused): &Shared<'_, A, B>, start: (usize, usize, usize)) {
        let (row, column, a, b) = tasks.tile(a, b, start);
        // SAFETY: the part's tile that starts here belongs to this task alone.
        if !unsafe { write(amx, (out, row, column), a, b) } {
            refused.store(true, Relaxed);
        }
    }
}

thread_local! {
    /// The split factors of the thread's last tile, whose memory serves the next one.
    static PACKED: Cell<[Packed; 2]> = const { Cell::new([Packed::new(), Packed::new()]) };
}

/// Writes `a·b`, computed on the calling thread, where its first element is at `row` and `column`; `false` where the factors
/// are not for the unit, and what was written is of no use.
///
/// # Panics
/// When the place lies outside of the matrix.
///
/// # Safety
/// No other task writes any of these elements.
unsafe fn write<A: Number, B: Number>(
    amx: Amx,
    (out, row, column): (&Product<'_>, usize, usize),
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
) -> bool {
    assert!(row + a.rows <= out.rows && column + b.columns <= out.columns, "a product outside of its matrix");
    let mut packed = PACKED.take();
    let [left, right] = &mut packed;
    // SAFETY: a tile of a product asks for no other while it is multiplied, so there is one at most on a thread.
    let mut tiles = unsafe { amx.configure() };
    let blocks = a.columns.div_ceil(DEPTH);
    let mut fit = true;
    for start in (0..blocks).map(|block| block * DEPTH) {
        let depth = DEPTH.min(a.columns - start);
        fit &= left.split(amx, a.columns(start, depth), Form::Rows);
        for from in (0..b.columns).step_by(BAND) {
            let band = b.columns(from, BAND.min(b.columns - from)).rows(start, depth);
            fit &= right.split(amx, band.transposed(), Form::Columns);
            for i in (0..a.rows).step_by(SIDE) {
                for j in (0..band.columns).step_by(SIDE) {
                    let sums = Sums {
                        // SAFETY: the element lies inside of the matrix (asserted).
                        start: unsafe { out.start.add((row + i) * out.columns + column + from + j) },
                        stride: out.columns,
                        height: SIDE.min(a.rows - i),
                        width: SIDE.min(band.columns - j),
                        add: start > 0,
                    };
                    // SAFETY: so many elements from here on lie inside of the tile, which no other task writes (the
                    // caller's contract), and were written where `start` is not the first block's.
                    unsafe { tiles.times::<A, B>(left.side::<A>(i), right.side::<B>(j), sums) };
                }
            }
        }
    }
    drop(tiles);
    PACKED.set(packed);
    fit
}

#[cfg(test)]
mod tests;
