//! Memory for results, which nobody touches before the task that fills it.
//!
//! `vec![0.0; n]` writes its zeros on the calling thread, all of them before the kernel begins: memory is passed once more,
//! and the other threads wait. Here every task clears its own part, or copies it from an input, and has it in its cache from then on.

use super::{kernel, run};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A tensor's numbers that tasks are about to write.
pub(in crate::ops) struct Fresh {
    memory: Vec<f32>,
    len: usize,
    written: AtomicUsize,
}

/// A part of a [`Fresh`], for one task.
pub(in crate::ops) struct Part<'a> {
    memory: &'a mut [MaybeUninit<f32>],
    written: &'a AtomicUsize,
}

impl Fresh {
    /// Memory for so many numbers.
    pub fn new(len: usize) -> Self {
        Self { memory: Vec::with_capacity(len), len, written: AtomicUsize::new(0) }
    }

    /// All of it, in parts of this size; the last one may be shorter.
    pub fn parts(&mut self, size: usize) -> impl ExactSizeIterator<Item = Part<'_>> {
        *self.written.get_mut() = 0;
        let written = &self.written;
        self.memory.spare_capacity_mut()[..self.len].chunks_mut(size).map(move |memory| Part { memory, written })
    }

    /// The numbers.
    ///
    /// # Panics
    /// When some part was not [cleared](Part::clear) or [copied](Part::copy) since the last call of [`Self::parts`].
    pub fn into_vec(mut self) -> Vec<f32> {
        assert_eq!(*self.written.get_mut(), self.len, "a part of a result was not written");
        // SAFETY: so many elements were allocated. Parts are disjoint and are written once, by value, since `parts` began to
        // count at 0; so the count says that all of them were.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}

impl<'a> Part<'a> {
    /// The part's numbers, all of them zero.
    #[inline(always)] // inside the kernels
    pub fn clear(self) -> &'a mut [f32] {
        self.memory.fill(MaybeUninit::new(0.0));
        let _ = self.written.fetch_add(self.memory.len(), Ordering::Relaxed);
        // SAFETY: every element was just written.
        unsafe { &mut *(std::ptr::from_mut(self.memory) as *mut [f32]) }
    }

    /// The part with these numbers in it.
    ///
    /// # Panics
    /// When they are not as many.
    #[inline(always)] // inside the kernels
    pub fn copy(self, numbers: &[f32]) -> &'a mut [f32] {
        assert_eq!(self.memory.len(), numbers.len(), "a part is filled whole");
        for (place, number) in self.memory.iter_mut().zip(numbers) {
            place.write(*number);
        }
        let _ = self.written.fetch_add(self.memory.len(), Ordering::Relaxed);
        // SAFETY: every element was just written: there are as many numbers (asserted).
        unsafe { &mut *(std::ptr::from_mut(self.memory) as *mut [f32]) }
    }
}

/// So many zeros, written by all threads, for results whose tasks do not own contiguous parts.
pub(in crate::ops) fn zeros(len: usize) -> Vec<f32> {
    let mut fresh = Fresh::new(len);
    run(Clear, len, fresh.parts(1 << 14), &());
    fresh.into_vec()
}

kernel!(Clear = clear<'a>((), Part<'a>));

#[inline(always)]
fn clear((): &(), part: Part<'_>) {
    let _ = part.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_zero() {
        for len in [0, 1, (1 << 14) - 1, 1 << 15, 100_007] {
            let mut numbers = zeros(len);
            assert_eq!(numbers, vec![0.0; len]);
            numbers.fill(f32::NAN); // what the next one finds in memory that is used again
        }
    }

    #[test]
    fn parts_are_those_of_the_slice() {
        let mut fresh = Fresh::new(10);
        for (i, part) in fresh.parts(4).enumerate() {
            part.clear().fill(i as f32 + 1.0);
        }
        assert_eq!(fresh.into_vec(), [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "a part of a result was not written")]
    fn a_part_that_nobody_wrote_shows() {
        let mut fresh = Fresh::new(10);
        let _ = fresh.parts(5).next().map(Part::clear);
        fresh.into_vec();
    }

    #[test]
    #[should_panic(expected = "a part of a result was not written")]
    fn a_second_round_counts_anew() {
        let mut fresh = Fresh::new(10);
        let _ = fresh.parts(5).next().map(Part::clear);
        let _ = fresh.parts(5).next().map(Part::clear);
        fresh.into_vec();
    }
}
