//! A seeded permutation of numbers, computed number by number.

use chacha20::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// Rounds of the Feistel network: four make a permutation that looks random from outside, eight are for short words.
const ROUNDS: usize = 8;

/// A permutation of `0..len` that belongs to a seed and a pass, in constant memory.
///
/// A Feistel network permutes the smallest `0..4^k` that holds `0..len`, and results outside are permuted again until one
/// is inside, which at most four tries on average bring about.
#[derive(Debug)]
pub(super) struct Shuffle {
    len: u64,
    half: u32,
    keys: [u64; ROUNDS],
}

impl Shuffle {
    pub(super) fn new(len: u64, seed: u64, pass: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(pass);
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half: bits.div_ceil(2), keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// Where number `i` goes.
    pub(super) fn get(&self, i: u64) -> u64 {
        debug_assert!(i < self.len);
        let mut place = self.network(i);
        while place >= self.len {
            place = self.network(place);
        }
        place
    }

    fn network(&self, number: u64) -> u64 {
        // Two halves of up to 32 bits.
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half | right
    }
}

/// Spreads every bit over all others.
///
/// # Source
/// The finalizer of `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_once(len in 1_u64..3000, seed: u64, pass: u64) {
            let shuffle = Shuffle::new(len, seed, pass);
            let mut places: Vec<u64> = (0..len).map(|i| shuffle.get(i)).collect();
            places.sort_unstable();
            prop_assert!(places.into_iter().eq(0..len));
        }

        #[test]
        fn the_longest_streams_fit(len in 1_u64 << 62..u64::MAX, seed: u64, i: u64) {
            prop_assert!(Shuffle::new(len, seed, 0).get(i % len) < len);
        }
    }

    #[test]
    fn places_are_even_and_far_from_their_numbers() {
        // Number 0 of 16 goes everywhere about equally often over 16,000 seeds: 1000 ± 5 standard deviations.
        let mut counts = [0; 16];
        (0..16_000).for_each(|seed| counts[Shuffle::new(16, seed, 0).get(0) as usize] += 1);
        assert!(counts.iter().all(|&count| (845..1155).contains(&count)), "{counts:?}");
        // Of a permutation of many numbers about one stays in place, and neighbours part.
        let shuffle = Shuffle::new(10_000, 3, 1);
        let fixed = (0..10_000).filter(|&i| shuffle.get(i) == i).count();
        let together = (1..10_000).filter(|&i| shuffle.get(i) == shuffle.get(i - 1) + 1).count();
        assert!(fixed < 10 && together < 10, "{fixed} {together}");
    }
}
