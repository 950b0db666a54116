//! How the threads share the matrices of a decoding step.

use super::cpu::Block;
use crate::ops::packed::PackedMatrix;

/// The most rows of weights in a portion.
pub(super) const TILE: usize = 128;

/// How matrices are cut into portions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    threads: usize,
    /// The most weights in a portion. More than one sequence reads them again and again, from the cache.
    weights: usize,
}

impl Cut {
    pub fn new(batch: usize) -> Self {
        Self { threads: rayon::current_num_threads(), weights: if batch == 1 { 1 << 18 } else { 1 << 16 } }
    }

    /// Rows of these weights in a portion: so many that taking one and waiting for its first numbers cost little beside it, and so
    /// few that no thread waits long for another at the end; and as many as can go four at a time.
    pub fn tile(self, weight: &PackedMatrix) -> usize {
        (weight.rows() / (8 * self.threads)).min(self.weights / weight.columns()).clamp(8, TILE) & !3
    }

    /// Portions of these weights.
    pub fn count(self, weight: &PackedMatrix) -> usize {
        weight.rows().div_ceil(self.tile(weight))
    }

    /// Start and length of a portion of these weights.
    pub fn rows(self, weight: &PackedMatrix, portion: usize) -> (usize, usize) {
        let start = portion * self.tile(weight);
        (start, self.tile(weight).min(weight.rows() - start))
    }

    /// Portions of all phases.
    pub fn portions(self, blocks: &[Block<'_>], head: &PackedMatrix) -> Vec<u32> {
        let of_block = |block: &Block<'_>| {
            let in_channel_mix = self.count(block.ffn_key) + self.count(block.ffn_receptance);
            let att = [3 * self.count(block.att[0]), self.count(block.att_output)];
            [att[0], att[1], in_channel_mix, self.count(block.ffn_value)]
        };
        blocks.iter().flat_map(of_block).chain([self.count(head)]).map(|count| count as u32).collect()
    }
}
