//! The inner loop of a product: a few rows of the first factor times a panel of the second one, every sum in a register.
//!
//! # Cost
//! With AVX2, each step of the depth takes 12 multiply-adds, the two loads of a panel's row and six of single numbers, and
//! hardly anything else. Where a neighbour uses the other half of the processor's core, how many instructions a
//! multiply-add costs is what the rate depends on (`BENCHMARKS.md`).

use pulp::{Simd, WithSimd};

/// Rows of the first factor that are multiplied at once, at most.
pub(super) const HEIGHT: usize = 6;

/// The products of `R` rows with the first `U` vectors of a panel of `V` vectors a row.
///
/// Only [`Times::new`] makes one, so whoever has one was promised that its products may be written.
pub(super) struct Times<'a, const R: usize, const V: usize, const U: usize> {
    rows: Rows<'a>,
    panel: &'a [f32],
    target: Target,
}

/// How the first factor's rows lie in memory.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// As they are, so many numbers apart.
    Apart(&'a [f32], usize),
    /// In a sliver: [`HEIGHT`] numbers of a column side by side, a column after the other.
    Sliver(&'a [f32]),
}

/// Where the products go: rows `stride` apart, `width` elements of each.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub start: *mut f32,
    pub stride: usize,
    pub width: usize,
    /// Whether they are added to what is there.
    pub add: bool,
}

impl<'a, const R: usize, const V: usize, const U: usize> Times<'a, R, V, U> {
    /// The products of these rows and this panel, for this target. What is left of a panel after its last whole row is not
    /// used.
    ///
    /// # Safety
    /// `R` rows of `target.width` elements may be written from `target.start` on, until this value is gone; they were
    /// written where `target.add`.
    pub unsafe fn new(rows: Rows<'a>, panel: &'a [f32], target: Target) -> Self {
        Self { rows, panel, target }
    }

    /// Computes and writes them.
    ///
    /// Never inlined: the loops need all registers for themselves. Nothing but this and what is inlined into it may see the
    /// sums, or they would lie in memory.
    ///
    /// # Panics
    /// When the rows are shorter than the panel is deep, or the target is wider than `U` vectors.
    #[inline(never)]
    pub fn write<S: Simd>(self, simd: S) {
        simd.vectorize(self);
    }
}

impl<const R: usize, const V: usize, const U: usize> WithSimd for Times<'_, R, V, U> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let panel = S::as_simd_f32s(self.panel).0.as_chunks().0;
        let sums = match self.rows {
            Rows::Apart(rows, stride) => sums::<S, R, V, U>(simd, rows, (stride, 1), panel),
            Rows::Sliver(sliver) => sums::<S, R, V, U>(simd, sliver, (1, HEIGHT), panel),
        };
        // SAFETY: the contract of `new`, which made this value.
        unsafe { self.target.put(simd, sums) };
    }
}

type Sums<S, const R: usize, const U: usize> = [[<S as Simd>::f32s; U]; R];

/// The sums for rows that lie `stride` apart, and whose numbers lie `step` apart.
#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize, const U: usize>(
    simd: S,
    rows: &[f32],
    (stride, step): (usize, usize),
    panel: &[[S::f32s; V]],
) -> Sums<S, R, U> {
    assert!((R - 1) * stride + panel.len() * step < rows.len() + step, "rows that do not fit the panel");
    let mut sums = [[simd.splat_f32s(0.0); U]; R];
    let mut column = rows.as_ptr();
    // Written out, for there are no registers to spare: a loop over the four would be for the compiler to unroll, or not.
    macro_rules! add {
        ($panel:expr, $ahead:literal) => {
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: this column is less than the panel is deep, so it lies in the slice in the last row, too (asserted).
                let number = simd.splat_f32s(unsafe { *column.add(i * stride + $ahead * step) });
                for (sum, vector) in sums.iter_mut().zip($panel) {
                    *sum = simd.mul_add_e_f32s(number, vector, *sum);
                }
            }
        };
    }
    let (fours, rest) = panel.as_chunks::<4>();
    for panel in fours {
        add!(panel[0], 0);
        add!(panel[1], 1);
        add!(panel[2], 2);
        add!(panel[3], 3);
        column = column.wrapping_add(4 * step);
    }
    for panel in rest {
        add!(*panel, 0);
        column = column.wrapping_add(step);
    }
    sums
}

impl Target {
    /// # Safety
    /// `R` rows of `width` elements may be written from `start` on; they were where `add`.
    #[inline(always)]
    unsafe fn put<S: Simd, const R: usize, const U: usize>(&self, simd: S, sums: Sums<S, R, U>) {
        if self.width == U * S::F32_LANES {
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    // SAFETY: the row has room for `U` vectors (just seen), and was written where they are added (the
                    // caller's contract).
                    unsafe {
                        let place = self.start.add(i * self.stride + j * S::F32_LANES).cast::<S::f32s>();
                        let before = if self.add { place.read_unaligned() } else { simd.splat_f32s(0.0) };
                        place.write_unaligned(simd.add_f32s(before, *sum));
                    }
                }
            }
            return;
        }
        // A copy, vector by vector: sums that a slice points to would lie in memory while they are summed.
        let mut copy = [[simd.splat_f32s(0.0); U]; R];
        for (copy, sum) in copy.iter_mut().flatten().zip(sums.iter().flatten()) {
            *copy = *sum;
        }
        for (i, numbers) in copy.iter().enumerate() {
            let numbers: &[f32] = bytemuck::cast_slice(numbers);
            for (j, number) in numbers[..self.width].iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe {
                    let place = self.start.add(i * self.stride + j);
                    let before = if self.add { place.read() } else { 0.0 };
                    place.write(before + number);
                }
            }
        }
    }
}
