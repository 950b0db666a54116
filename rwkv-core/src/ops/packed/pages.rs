//! Memory for the numbers of a packed matrix.

use bytemuck::Pod;
use std::ops::{Deref, DerefMut};

/// From so many bytes on, numbers have pages of their own.
const OWN_PAGES: usize = 1 << 18;

/// A slice of numbers that is as long as it was made, and zero at first.
///
/// Weights are most of what a process holds that runs a model, so a large matrix is mapped alone: without what an allocator
/// adds to round a size up, which for mimalloc is a tenth of a matrix of 9 MB (`BENCHMARKS.md`).
#[derive(Debug)]
pub(super) enum Pages<T> {
    Mapped(memmap2::MmapMut),
    Allocated(Vec<T>),
}

impl<T: Pod> Pages<T> {
    pub fn zeroed(len: usize) -> Self {
        let bytes = len.saturating_mul(size_of::<T>());
        // A system that maps no memory is left to the allocator, which knows what to do when there is none.
        let mapped = (bytes >= OWN_PAGES).then(|| memmap2::MmapMut::map_anon(bytes).ok()).flatten();
        mapped.map_or_else(|| Self::Allocated(vec![T::zeroed(); len]), Self::Mapped)
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    #[inline(always)] // inside the CPU kernels
    fn deref(&self) -> &[T] {
        match self {
            Self::Mapped(map) => bytemuck::cast_slice(map),
            Self::Allocated(numbers) => numbers,
        }
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Mapped(map) => bytemuck::cast_slice_mut(map),
            Self::Allocated(numbers) => numbers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_matrices_are_slices_of_zeros() {
        for len in [0, 1, 1000, OWN_PAGES / 4 - 1, OWN_PAGES / 4, 1_000_003] {
            let mut numbers = Pages::<f32>::zeroed(len);
            assert_eq!(matches!(numbers, Pages::Mapped(_)), 4 * len >= OWN_PAGES);
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|x| *x == 0.0));
            numbers.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
            assert!(numbers.iter().enumerate().all(|(i, x)| *x == i as f32));
        }
        assert_eq!(Pages::<i8>::zeroed(OWN_PAGES + 1).len(), OWN_PAGES + 1);
        assert_eq!(Pages::<u16>::zeroed(OWN_PAGES + 1).len(), OWN_PAGES + 1);
    }
}
