//! Writing blocks of channels of one row-major matrix from several threads.

use std::marker::PhantomData;

/// A row-major matrix whose column blocks are written by different tasks.
///
/// A block of channels is a strided region, which slices cannot split; this type hands out one row of one block at a
/// time.
pub(in crate::ops) struct Columns<'a> {
    data: *mut f32,
    len: usize,
    width: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer comes from a `&mut [f32]` that this value borrows for `'a`, and `f32` may be written from any
// thread; that no two threads write the same element is the contract of `row`.
unsafe impl Send for Columns<'_> {}
// SAFETY: as above; `row` is the only method that reaches the data.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// Borrows `data` as rows of `width` floats.
    pub fn new(data: &'a mut [f32], width: usize) -> Self {
        assert!(width > 0 && data.len().is_multiple_of(width), "rows of {width} in {} floats", data.len());
        Self { data: data.as_mut_ptr(), len: data.len(), width, owner: PhantomData }
    }

    /// Columns `start .. start + len` of `row`.
    ///
    /// # Panics
    /// When the range leaves the row or the matrix.
    ///
    /// # Safety
    /// While the slice lives, nothing else may hold a slice of this matrix that shares an element with it. The kernels
    /// keep to this because every task owns its own batch row × channel block and drops each slice before the next.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the contract above is what makes the slices exclusive
    pub unsafe fn row(&self, row: usize, start: usize, len: usize) -> &mut [f32] {
        let offset = row * self.width + start;
        assert!(start + len <= self.width && offset + len <= self.len);
        // SAFETY: the range lies inside the borrowed slice (asserted), and is not shared (the caller's contract).
        unsafe { std::slice::from_raw_parts_mut(self.data.add(offset), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn blocks_written_by_many_threads_cover_the_matrix_once() {
        let (rows, width, block) = (37, 50, 8);
        let mut data = vec![0.0; rows * width];
        let columns = Columns::new(&mut data, width);
        let blocks = width.div_ceil(block);
        (0..blocks).into_par_iter().for_each(|b| {
            let len = block.min(width - b * block);
            for row in 0..rows {
                // SAFETY: block `b` belongs to this closure call alone, and the slice ends with the statement.
                unsafe { columns.row(row, b * block, len) }.iter_mut().for_each(|x| *x += 1.0 + b as f32);
            }
        });
        for (i, x) in data.iter().enumerate() {
            assert_eq!(*x, 1.0 + (i % width / block) as f32);
        }
    }

    #[test]
    #[should_panic(expected = "start + len <= self.width")]
    fn a_range_past_the_row_is_refused() {
        let mut data = vec![0.0; 12];
        let columns = Columns::new(&mut data, 4);
        // SAFETY: the only slice; the call panics before it makes one.
        unsafe { columns.row(0, 3, 2) };
    }

    #[test]
    #[should_panic(expected = "offset + len <= self.len")]
    fn a_row_past_the_end_is_refused() {
        let mut data = vec![0.0; 12];
        let columns = Columns::new(&mut data, 4);
        // SAFETY: the only slice; the call panics before it makes one.
        unsafe { columns.row(3, 0, 1) };
    }
}
