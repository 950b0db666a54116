//! Buffers for results.

use super::{kernel, run};
use std::mem::MaybeUninit;

/// Floats that one task writes, and from which on there are tasks at all.
const TASK: usize = 1 << 16;

/// So many zeros, written by all threads: for a large result one thread alone takes a third of the time that the kernel
/// takes which fills it.
pub(in crate::ops) fn zeros(len: usize) -> Vec<f32> {
    if len < 2 * TASK {
        return vec![0.0; len];
    }
    let mut numbers = Vec::with_capacity(len);
    run(Zero, len, numbers.spare_capacity_mut()[..len].chunks_mut(TASK), &());
    // SAFETY: so many elements were allocated, and the chunks, each written by a task, are all of them.
    unsafe { numbers.set_len(len) };
    numbers
}

kernel!(Zero = zero<'a>((), &'a mut [MaybeUninit<f32>]));

#[inline(always)]
fn zero((): &(), chunk: &mut [MaybeUninit<f32>]) {
    chunk.fill(MaybeUninit::new(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_zero() {
        for len in [0, 1, TASK, 2 * TASK - 1, 2 * TASK, 5 * TASK + 7] {
            let mut numbers = zeros(len);
            assert_eq!(numbers, vec![0.0; len]);
            numbers.fill(f32::NAN); // what the next buffer finds in memory that is used again
        }
    }
}
