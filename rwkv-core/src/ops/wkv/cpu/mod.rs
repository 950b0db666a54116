//! Native WKV kernels for the CPU backends, on contiguous `f32` slices.
//!
//! One task runs one batch row and one block of [`BLOCK`] neighbouring channels through all of time, with the state in
//! registers: rows of `k` and `v` are read once, in order, and the channel loop inside is a vector loop. Tasks are
//! spread over rayon's threads; they share nothing but read-only inputs, so results do not depend on the thread count.

mod backward;
pub(in crate::ops) mod forward;
mod glue;

pub(in crate::ops) use glue::{wkv_backward, wkv_forward};

use crate::ops::cpu::lanes::LANES;
use crate::ops::cpu::{Kernel, kernel, run};
use backward::{Gradients, Saved, backward};
use forward::{Inputs, forward};

/// Channels that one task handles: a few vectors, so that their dependency chains overlap.
const BLOCK: usize = 4 * LANES;

/// The sizes of one WKV call.
#[derive(Debug, Clone, Copy)]
struct Dims {
    batch: usize,
    time: usize,
    channels: usize,
}

impl Dims {
    fn sequence_shape(&self) -> [usize; 3] {
        [self.batch, self.time, self.channels]
    }

    fn state_shape(&self) -> [usize; 3] {
        [self.batch, 3, self.channels]
    }

    /// Elements of `[B, T, C]`.
    fn sequence(&self) -> usize {
        self.batch * self.time * self.channels
    }

    /// Elements of the state, `[B, 3, C]`.
    fn state(&self) -> usize {
        self.batch * 3 * self.channels
    }

    /// Row of `[B, T, C]` that holds token `t` of batch row `b`.
    fn token(&self, b: usize, t: usize) -> usize {
        b * self.time + t
    }
}

/// One task's share: a batch row and a range of channels.
#[derive(Debug, Clone, Copy)]
struct Block {
    batch: usize,
    start: usize,
    len: usize,
}

/// Runs the kernel once for every batch row and channel block.
fn for_each_block<K: Kernel<C, Block>, C: Sync>(kernel: K, dims: Dims, context: &C) {
    let per_row = dims.channels.div_ceil(BLOCK);
    let block = |index: usize| {
        let start = index % per_row * BLOCK;
        Block { batch: index / per_row, start, len: BLOCK.min(dims.channels - start) }
    };
    run(kernel, dims.sequence(), (0..dims.batch * per_row).map(block), context);
}
