//! Native WKV kernels for the CPU backends, on contiguous `f32` slices.
//!
//! One task runs one batch row and one block of [`BLOCK`] neighbouring channels through all of time, with the state in
//! registers: rows of `k` and `v` are read once, in order, and the channel loop inside is a vector loop. Tasks are
//! spread over rayon's threads; they share nothing but read-only inputs, so results do not depend on the thread count.

mod backward;
pub(in crate::ops) mod forward;
mod glue;

pub(in crate::ops) use glue::{wkv_backward, wkv_forward};

use crate::ops::cpu::vectors::load;
use crate::ops::cpu::{Kernel, kernel, run};
use backward::{Gradients, Saved, backward};
use forward::{Inputs, forward};
use pulp::Simd;

/// Channels that one task handles: four lines of memory.
const BLOCK: usize = 64;

/// Vectors of channels that go through time together, so that their dependency chains overlap.
const VECTORS: usize = 8;

/// Tokens ahead of which a block asks for its channels: a row's lie in another page than the last one's, and the processor
/// by itself would not look there.
const AHEAD: usize = 4;

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

impl Block {
    /// The block in parts of up to [`VECTORS`] vectors.
    fn parts<S: Simd>(self) -> impl Iterator<Item = Self> {
        let (size, end) = (VECTORS * S::F32_LANES, self.start + self.len);
        (self.start..end).step_by(size).map(move |start| Self { start, len: size.min(end - start), ..self })
    }

    /// First channel and width of vector `i`.
    #[inline(always)]
    fn vector<S: Simd>(&self, i: usize) -> (usize, usize) {
        let from = i * S::F32_LANES;
        (self.start + from, S::F32_LANES.min(self.len - from))
    }

    /// Vector `i` of a row of a matrix with so many channels.
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, matrix: &[f32], channels: usize, row: usize, i: usize) -> S::f32s {
        let (start, width) = self.vector::<S>(i);
        load(simd, &matrix[row * channels + start..][..width])
    }
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
