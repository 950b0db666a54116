//! Choosing a token from logits.

use crate::error::{Error, Result};
use chacha20::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Draws tokens with temperature, top-p and top-k, from a seed.
///
/// The order is the official one: probabilities at temperature 1; the nucleus keeps the most probable tokens up to and
/// including the one that brings their sum to `top_p`; `top_k` keeps that many; then `p^(1/T)`, renormalised.
///
/// # Source
/// Reference §6.2; `sample_logits` of the official package. Unlike there, `top_p = 1` keeps every token instead of
/// turning greedy through a rounding error, and ties at the cut are broken by id so that `top_k` is exact.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler; `temperature` 0 always takes the most probable token, `top_k` 0 sets no limit.
    ///
    /// # Errors
    /// [`Error::Config`] for a negative temperature or a `top_p` outside `[0, 1]`.
    pub fn new(temperature: f32, top_p: f32, top_k: usize, seed: u64) -> Result<Self> {
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(Error::config("temperature", "a number from 0 up", temperature));
        }
        if !(0.0..=1.0).contains(&top_p) {
            return Err(Error::config("top_p", "a number from 0 to 1", top_p));
        }
        Ok(Self { temperature, top_p, top_k, rng: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// One token, from logits over the vocabulary. The most probable one where logits are not numbers.
    ///
    /// # Panics
    /// When `logits` is empty.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        assert!(!logits.is_empty(), "no logits to sample from");
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&i, &j| logits[j].total_cmp(&logits[i]).then(i.cmp(&j)));
        if self.temperature == 0.0 {
            return order[0] as u32;
        }
        let max = logits[order[0]];
        let weights: Vec<f32> = order.iter().map(|&i| (logits[i] - max).exp()).collect();
        let total: f32 = weights.iter().sum();
        let kept = self.nucleus(&weights, total);
        let tempered: Vec<f32> = weights[..kept].iter().map(|p| p.powf(1.0 / self.temperature)).collect();
        let mut target = self.rng.random::<f32>() * tempered.iter().sum::<f32>();
        for (&token, weight) in order.iter().zip(&tempered) {
            target -= weight;
            if target < 0.0 {
                return token as u32;
            }
        }
        order[0] as u32
    }

    /// How many of the sorted weights survive both cuts; at least one.
    fn nucleus(&self, weights: &[f32], total: f32) -> usize {
        let limit = if self.top_k == 0 { weights.len() } else { self.top_k.min(weights.len()) };
        if self.top_p >= 1.0 {
            return limit;
        }
        let mut sum = 0.0;
        let reached = weights.iter().position(|weight| {
            sum += weight / total;
            sum >= self.top_p
        });
        reached.map_or(limit, |last| (last + 1).min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(temperature: f32, top_p: f32, top_k: usize, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(temperature, top_p, top_k, 7).expect("valid settings");
        let mut counts = vec![0; logits.len()];
        (0..20_000).for_each(|_| counts[sampler.sample(logits) as usize] += 1);
        counts
    }

    /// Logits of the probabilities 0.5, 0.3, 0.15, 0.05, in another order.
    fn logits() -> [f32; 4] {
        [0.15f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.3f32.ln()]
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let counts = draw(1.0, 1.0, 0, &logits());
        for (count, p) in counts.iter().zip([0.15, 0.5, 0.05, 0.3]) {
            assert!((*count as f32 / 20_000.0 - p).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn the_nucleus_ends_with_the_token_that_reaches_top_p() {
        assert_eq!(draw(1.0, 0.79, 0, &logits()).iter().filter(|&&n| n > 0).count(), 2);
        assert_eq!(draw(1.0, 0.81, 0, &logits()).iter().filter(|&&n| n > 0).count(), 3);
        assert_eq!(draw(1.0, 0.0, 0, &logits()), [0, 20_000, 0, 0]);
    }

    #[test]
    fn top_k_keeps_k_even_among_ties() {
        assert_eq!(draw(1.0, 1.0, 2, &[0.0; 5]).iter().filter(|&&n| n > 0).count(), 2);
    }

    #[test]
    fn temperature_acts_after_the_cut_and_zero_is_greedy() {
        let counts = draw(0.5, 0.79, 0, &logits()); // 0.25 : 0.09
        assert!((counts[1] as f32 / 20_000.0 - 0.25 / 0.34).abs() < 0.015, "{counts:?}");
        assert_eq!(draw(0.0, 1.0, 0, &logits()), [0, 20_000, 0, 0]);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let run = || {
            let mut sampler = Sampler::new(1.0, 0.9, 0, 3).expect("valid settings");
            (0..50).map(|_| sampler.sample(&logits())).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Sampler::new(-1.0, 1.0, 0, 0).is_err());
        assert!(Sampler::new(f32::NAN, 1.0, 0, 0).is_err());
        assert!(Sampler::new(1.0, 1.1, 0, 0).is_err());
    }
}
