//! How cubes share sequences, the parts of WKV's kernels that both directions have in common.

use crate::ops::cube::{NARROWEST_PLANE, fold};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units that a GPU is to be given: on a large one two warps for each scheduler, which with the tokens that they ask for ahead
/// keep more than the bytes under way that its memory needs.
const UNITS_WANTED: usize = 1 << 15;

/// More units would share a sequence at the price of more rounds of the scan.
const MOST_SEGMENTS: usize = 32;

/// Units of a cube, at most: what every GPU has.
const MOST_UNITS: usize = 256;

/// Sequences of a cube: neighbouring channels, of which memory hands out some at once; few, so that cubes of even a small
/// batch spread over all multiprocessors.
const FEWEST_LANES: usize = 16;
const MOST_LANES: usize = 64;

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
        let lanes = (MOST_LANES / segments).max(FEWEST_LANES).min(MOST_UNITS / segments);
        Self { segments, tokens, lanes }
    }

    /// What suits `k`, `[B, T, C]`: as many units for a sequence as fill a GPU, each taking up to `tokens` at a time.
    #[must_use]
    pub fn of<R: CubeRuntime>(k: &CubeTensor<R>, tokens: usize) -> Self {
        let [batch, time, channels] = k.shape().dims();
        if k.client.properties().hardware.plane_size_max < NARROWEST_PLANE {
            return Self::new(1, 1);
        }
        // Short sequences are read at once too, but for the few tokens beyond a power of two.
        let tokens = tokens.min(1 << time.ilog2());
        let wanted = UNITS_WANTED.div_ceil(batch * channels).next_power_of_two();
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

/// Asks for the numbers of neighbouring tokens.
#[cube]
pub(super) fn read<F: Float>(
    from: &Tensor<F>,
    into: &mut Array<F>,
    first: usize,
    channels: usize,
    #[comptime] tokens: usize,
) {
    #[unroll]
    for i in 0..tokens {
        // In bounds: only segments that there are, and whole, are read.
        into[i] = from.read_unchecked(first + i * channels);
    }
}
