//! How cubes share sequences, the parts of WKV's kernels that both directions have in common.

use crate::ops::cube::{NARROWEST_PLANE, fold};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units that a GPU is to be given: on a large one two warps for each scheduler, which in `f32` ask ahead for as many bytes as its
/// memory has under way.
const UNITS_WANTED: usize = 1 << 15;

/// More units would share a sequence at the price of more rounds of the scan.
const MOST_SEGMENTS: usize = 32;

/// Units of a cube, at most: what every GPU has.
const MOST_UNITS: usize = 256;

/// Sequences of a cube: neighbouring channels, of which memory hands out 32 bytes or more at once, 8 numbers of `f32` or 16 of half
/// the size. The fewer they are, the better even a small batch spreads over all multiprocessors; they are 8 only where 32 units
/// share each.
const LANES: usize = 16;
const MOST_LANES: usize = 64;

/// Tokens that are taken at a time where there are fewer than a kernel likes: few such numbers, as each is a kernel of its own.
const FEW_TOKENS: usize = 4;

/// How a cube shares sequences, of which each is a batch row and channel.
///
/// A cube walks through time in windows. A window is cut into segments of a few tokens, one for each unit that shares the
/// sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Units that share a sequence.
    pub(super) segments: usize,
    /// Tokens of a segment. A unit asks for all of them at once, and for the next ones before it computes.
    pub(super) tokens: usize,
    /// Sequences of a cube.
    pub(super) lanes: usize,
}

impl Cut {
    /// Sequences shared by so many units, which take so many tokens at a time.
    ///
    /// # Panics
    /// When `segments` is no power of two up to 32, or there are no tokens.
    #[must_use]
    pub fn new(segments: usize, tokens: usize) -> Self {
        assert!(segments.is_power_of_two() && segments <= MOST_SEGMENTS, "{segments} is no power of two up to 32");
        assert!(tokens > 0, "a segment has tokens");
        let lanes = (MOST_LANES / segments).max(LANES).min(MOST_UNITS / segments);
        Self { segments, tokens, lanes }
    }

    /// What suits `k`, `[B, T, C]`: as many units for a sequence as fill a GPU, each taking up to `tokens` at a time.
    #[must_use]
    pub fn of<R: CubeRuntime>(k: &CubeTensor<R>, tokens: usize) -> Self {
        let [batch, time, channels] = k.shape().dims();
        let software = k.client.properties().hardware.plane_size_max < NARROWEST_PLANE;
        if software { Self::new(1, 1) } else { Self::on_a_gpu(batch * channels, time, tokens) }
    }

    fn on_a_gpu(sequences: usize, time: usize, tokens: usize) -> Self {
        let tokens = [tokens, FEW_TOKENS].into_iter().find(|&tokens| tokens <= time).unwrap_or(1);
        let wanted = UNITS_WANTED.div_ceil(sequences).next_power_of_two();
        let useful = time.div_ceil(tokens).next_power_of_two();
        Self::new(wanted.min(useful).min(MOST_SEGMENTS), tokens)
    }

    /// Whether a unit takes a sequence alone and token by token, without anything asked for ahead: a driver in software gains
    /// nothing from that.
    pub(super) fn is_plain(self) -> bool {
        self.window() == 1
    }

    /// Tokens of a window.
    pub(super) fn window(self) -> usize {
        self.segments * self.tokens
    }

    /// Numbers of shared memory for two states of `numbers` numbers for every unit, if units share sequences.
    pub(super) fn shared(self, numbers: usize) -> usize {
        if self.segments == 1 { 1 } else { 2 * numbers * self.segments * self.lanes }
    }

    /// Cubes for so many sequences, and their units.
    pub(super) fn launch(self, sequences: usize) -> (CubeCount, CubeDim) {
        let units = u32::try_from(self.segments * self.lanes).expect("at most MOST_UNITS");
        (fold(sequences.div_ceil(self.lanes)), CubeDim::new_1d(units))
    }
}

/// What a unit takes of the sequences, and of every window.
#[derive(CubeType)]
pub(super) struct Place {
    /// Whether there is such a sequence: the last cubes may have units too many, which repeat the last one.
    pub exists: bool,
    pub batch: usize,
    pub channel: usize,
    /// Which of the cube's sequences.
    pub lane: usize,
    pub segment: usize,
}

/// The place of this unit among so many sequences.
#[cube]
pub(super) fn place_of(sequences: usize, channels: usize, #[comptime] cut: Cut) -> Place {
    let unit = UNIT_POS as usize;
    let lane = unit % cut.lanes;
    let sequence = CUBE_POS * cut.lanes + lane;
    let last = min(sequence, sequences - 1);
    Place {
        exists: sequence < sequences,
        batch: last / channels,
        channel: last % channels,
        lane,
        segment: unit / cut.lanes,
    }
}

/// How many tokens there are in the segment that begins after so many.
#[cube]
pub(super) fn tokens_of(place: &Place, before: usize, time: usize, #[comptime] cut: Cut) -> usize {
    let tokens = min(time - min(before, time), cut.tokens.runtime());
    select(place.exists, tokens, 0)
}

/// Whether the last token of all is in the unit's segment, where the last window may be less than whole.
#[cube]
pub(super) fn ends_with(place: &Place, time: usize, #[comptime] cut: Cut) -> bool {
    place.exists && place.segment == (time - 1) % comptime!(cut.window()) / cut.tokens
}

/// Asks for the numbers of neighbouring tokens, of which there is one at least; beyond the `count` that there are, for the last
/// one's again. Tokens lie `channels` numbers apart.
#[cube]
pub(super) fn read<F: Float>(
    from: &Tensor<F>,
    into: &mut Array<F>,
    first: usize,
    count: usize,
    channels: usize,
    #[comptime] tokens: usize,
) {
    // Without a check of bounds for each, which would make them wait for each other: the tokens are in the sequence.
    if count == tokens {
        #[unroll]
        for i in 0..tokens {
            into[i] = from.read_unchecked(first + i * channels);
        }
    } else {
        #[unroll]
        for i in 0..tokens {
            into[i] = from.read_unchecked(first + min(i, count - 1) * channels);
        }
    }
}

/// The like of [`read`] from the last token back.
#[cube]
pub(super) fn read_back<F: Float>(
    from: &Tensor<F>,
    into: &mut Array<F>,
    last: usize,
    count: usize,
    channels: usize,
    #[comptime] tokens: usize,
) {
    if count == tokens {
        #[unroll]
        for i in 0..tokens {
            into[i] = from.read_unchecked(last - i * channels);
        }
    } else {
        #[unroll]
        for i in 0..tokens {
            into[i] = from.read_unchecked(last - min(i, count - 1) * channels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_suit_the_sequences() {
        let cut = |batch: usize, time, channels: usize, tokens| {
            let Cut { segments, tokens, lanes } = Cut::on_a_gpu(batch * channels, time, tokens);
            (segments, tokens, lanes)
        };
        assert_eq!(cut(8, 1024, 768, 16), (8, 16, 16));
        assert_eq!(cut(32, 4096, 2048, 16), (1, 16, 64));
        assert_eq!(cut(32, 4096, 2048, 8), (1, 8, 64));
        assert_eq!(cut(1, 1024, 768, 16), (32, 16, 8));
        assert_eq!(cut(12, 64, 128, 16), (4, 16, 16));
        assert_eq!(cut(1, 31, 768, 16), (2, 16, 32));
        assert_eq!(cut(1, 15, 768, 16), (4, 4, 16));
        assert_eq!(cut(1, 3, 768, 16), (4, 1, 16));
        assert_eq!(cut(1, 1, 768, 16), (1, 1, 64));
        assert!(Cut::on_a_gpu(768, 1, 16).is_plain());
    }

    #[test]
    fn every_cut_fits_any_gpu() {
        for sequences in [1, 19, 768, 6_144, 65_536, 1 << 20] {
            for time in [1, 2, 7, 64, 1000, 100_000] {
                let cut = Cut::on_a_gpu(sequences, time, 8);
                assert!(cut.segments * cut.lanes <= MOST_UNITS, "{cut:?}");
                assert!(4 * cut.shared(5) <= 16 << 10, "{cut:?}");
                assert!((cut.segments - 1) * cut.tokens <= 2 * time, "{cut:?} for {time}");
            }
        }
    }
}
