//! Native WKV kernels for the CPU backends, on contiguous `f32` slices.
//!
//! One task runs one batch row and one block of [`BLOCK`] neighbouring channels through all of time, with the state in
//! the first cache: rows of `k` and `v` are read once, in order, and the channel loop inside is a vector loop. Tasks are
//! spread over rayon's threads; they share nothing but read-only inputs, so results do not depend on the thread count.

mod backward;
pub(in crate::ops) mod forward;
mod glue;

pub(in crate::ops) use glue::{wkv_backward, wkv_forward};

use crate::ops::cpu::prefetch::prefetch;
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

    /// Asks for the block's channels of a row of these matrices.
    #[inline(always)]
    fn fetch<const N: usize>(&self, matrices: [&[f32]; N], channels: usize, row: usize) {
        const LINE: usize = 16;
        for matrix in matrices {
            for channel in (self.start..self.start + self.len).step_by(LINE) {
                prefetch(matrix.as_ptr().wrapping_add(row * channels + channel));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::columns::Columns;
    use crate::ops::cpu::with_every_instruction_set;
    use pulp::WithSimd;

    const DIMS: Dims = Dims { batch: 2, time: 9, channels: 83 };

    fn numbers(count: usize, seed: usize, from: f32, to: f32) -> Vec<f32> {
        (0..count).map(|i| from + (to - from) * ((i * 7919 + seed * 104_729) % 1013) as f32 / 1012.0).collect()
    }

    /// Forward and backward, block by block, with these vectors: everything that they write.
    struct Both;

    impl WithSimd for Both {
        type Output = Vec<Vec<f32>>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<Vec<f32>> {
            let Dims { batch, channels, .. } = DIMS;
            let (sequence, state_size) = (DIMS.sequence(), DIMS.state());
            let (w, u) = (numbers(channels, 1, -2.0, -0.01), numbers(channels, 2, -1.0, 1.0));
            let [k, v, gy] = [3, 4, 5].map(|seed| numbers(sequence, seed, -3.0, 3.0));
            let [state, adjoint] = [6, 7].map(|seed| numbers(state_size, seed, 0.1, 1.0));
            let blocks = || {
                let starts = (0..channels).step_by(BLOCK);
                let blocks = starts.map(move |start| (start, BLOCK.min(channels - start)));
                (0..batch).flat_map(move |batch| blocks.clone().map(move |(start, len)| Block { batch, start, len }))
            };

            let [mut y, mut lse] = [(); 2].map(|()| vec![0.0; sequence]);
            let mut after = vec![0.0; state_size];
            let inputs = Inputs { w: &w, u: &u, k: &k, v: &v, state: &state };
            let outputs = forward::Outputs {
                y: Columns::new(&mut y, channels),
                state: Columns::new(&mut after, channels),
                lse: Some(Columns::new(&mut lse, channels)),
            };
            let context = (DIMS, &inputs, outputs);
            blocks().for_each(|block| forward::run_block(simd, &context, block));

            let [mut gk, mut gv] = [(); 2].map(|()| vec![0.0; sequence]);
            let (mut before, mut partial) = (vec![0.0; state_size], vec![0.0; 2 * batch * channels]);
            let saved =
                Saved { w: &w, u: &u, k: &k, v: &v, state: &state, y: &y, lse: &lse, gy: &gy, adjoint: &adjoint };
            let outputs = backward::Outputs {
                k: Columns::new(&mut gk, channels),
                v: Columns::new(&mut gv, channels),
                state: Columns::new(&mut before, channels),
                partial: Columns::new(&mut partial, channels),
            };
            let context = (DIMS, &saved, outputs);
            blocks().for_each(|block| backward::run_block(simd, &context, block));
            vec![y, lse, after, gk, gv, before, partial]
        }
    }

    #[test]
    fn vectors_of_every_length_compute_the_same() {
        fn check(name: &str, simd: impl Simd) {
            let mut largest = 0.0f32;
            for (expected, got) in pulp::Scalar.vectorize(Both).iter().zip(simd.vectorize(Both)) {
                let size = expected.iter().fold(0.0f32, |size, x| size.max(x.abs()));
                assert!(size > 0.1, "the numbers say something");
                for (expected, got) in expected.iter().zip(got) {
                    assert!(got.is_finite());
                    largest = largest.max((expected - got).abs() / size);
                }
            }
            println!("WKV with {name}: largest difference {largest:.2e} of a tensor's largest entry");
            assert!(largest < 3e-6);
        }
        with_every_instruction_set!(check);
    }
}
