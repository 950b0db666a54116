//! Choosing a token from logits.
//!
//! | step | file | what |
//! |---|---|---|
//! | 1 | `penalties.rs` | logits change: repetition, bias, bans, presence and frequency |
//! | 2 | `weights.rs` | probabilities at temperature 1 |
//! | 3 | `cuts.rs` | improbable tokens go: top-p, top-k, top-a, min-p, typical |
//! | 4 | here | `p^(1/T)` over what is left, and the draw |

mod config;
mod cuts;
mod penalties;
mod weights;

pub use config::SamplerConfig;

use crate::error::Result;
use chacha20::ChaCha8Rng;
use cuts::Cuts;
use penalties::Occurrences;
use rand::{RngExt, SeedableRng};
use weights::{largest, softmax_weights, sum};

/// Draws tokens from logits, by [`SamplerConfig`] and a seed.
///
/// The order is the official one: penalties on the logits; probabilities at temperature 1; the nucleus keeps the most
/// probable tokens up to and including the one that brings their sum to `top_p`, with all its equals; `top_k` keeps that
/// many; then come the cuts that the official package lacks; what is left is raised to `1/T` and drawn from. So a high
/// temperature never brings back a token that a cut removed.
///
/// One number of the `ChaCha8` generator is used per draw, and the arithmetic is the same on every platform: equal logits
/// and seeds give equal tokens everywhere. With temperature 0 nothing is random.
///
/// A clone goes on as the original would: fork it together with a state.
///
/// # Source
/// `sample_logits` and `generate` of the PyPI package `rwkv`. Unlike there, `top_p = 1` keeps every token instead of
/// turning greedy through a rounding error, top-k settles ties by id, and temperature 0 does, too.
///
/// # Example
/// ```
/// use rwkv_core::generate::{Sampler, SamplerConfig};
/// let config = SamplerConfig { top_k: 2, ..SamplerConfig::plain(1.0, 1.0, 0) };
/// let mut sampler = Sampler::from_config(config, 42).unwrap();
/// let kept = sampler.distribution(&[1.0, 3.0, -1.0, 3.0]).unwrap();
/// assert_eq!(kept, [(1, 0.5), (3, 0.5)]);
/// let token = sampler.sample(&[1.0, 3.0, -1.0, 3.0]).unwrap();
/// assert!(token == 1 || token == 3);
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
    draws: Draws,
    written: Occurrences,
    // Room that every token needs again.
    logits: Vec<f32>,
    tokens: Vec<u32>,
    weights: Vec<f32>,
    cuts: Cuts,
}

/// The random numbers; a clone continues the same sequence.
#[derive(Debug)]
struct Draws(ChaCha8Rng);

impl Clone for Draws {
    fn clone(&self) -> Self {
        Self(ChaCha8Rng::deserialize_state(&self.0.serialize_state()))
    }
}

impl Sampler {
    /// A sampler with temperature, top-p and top-k alone; see [`SamplerConfig::plain`].
    ///
    /// # Errors
    /// As [`Self::from_config`].
    pub fn new(temperature: f64, top_p: f64, top_k: usize, seed: u64) -> Result<Self> {
        Self::from_config(SamplerConfig::plain(temperature, top_p, top_k), seed)
    }

    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) as [`SamplerConfig::validate`].
    pub fn from_config(config: SamplerConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            draws: Draws(ChaCha8Rng::seed_from_u64(seed)),
            written: Occurrences::default(),
            logits: Vec::new(),
            tokens: Vec::new(),
            weights: Vec::new(),
            cuts: Cuts::default(),
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// One token, from logits over the vocabulary. Tell [`record`](Self::record) when it is written.
    ///
    /// # Errors
    /// [`Error::Logits`](crate::error::Error::Logits) when a logit is NaN or +∞, or none is left to draw;
    /// [`Error::Config`](crate::error::Error::Config) for a bias or a ban outside the vocabulary.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let (most_probable, total) = self.prepare(logits)?;
        if self.config.temperature == 0.0 {
            return Ok(most_probable);
        }
        let mut target = self.draws.0.random::<f64>() * total;
        let mut last = most_probable;
        for (&token, &weight) in self.tokens.iter().zip(&self.weights) {
            target -= f64::from(weight);
            if target < 0.0 {
                return Ok(token);
            }
            // Should rounding leave a rest, it belongs to the last token that can be drawn.
            last = if weight > 0.0 { token } else { last };
        }
        Ok(last)
    }

    /// What [`sample`](Self::sample) draws from: the tokens that survive the cuts, by rising id, and their
    /// probabilities.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn distribution(&mut self, logits: &[f32]) -> Result<Vec<(u32, f64)>> {
        let (most_probable, total) = self.prepare(logits)?;
        if self.config.temperature == 0.0 {
            return Ok(vec![(most_probable, 1.0)]);
        }
        let kept = self.tokens.iter().zip(&self.weights);
        Ok(kept.map(|(&token, &weight)| (token, f64::from(weight) / total)).collect())
    }

    /// Steps 1 to 4 up to the draw: the most probable token, and the sum of the weights of those that may be drawn, which
    /// are left in `tokens` and `weights`. With temperature 0 the most probable one is all that is found out.
    fn prepare(&mut self, logits: &[f32]) -> Result<(u32, f64)> {
        let Self { config, written, logits: adjusted, tokens, weights, cuts, .. } = self;
        let logits = adjust(config, written, logits, adjusted)?;
        let (index, max) = largest(logits)?;
        if config.temperature == 0.0 {
            return Ok((index as u32, 1.0));
        }
        let total = softmax_weights(logits.iter().map(|logit| logit - max), weights);
        let kept = cuts.apply(config, logits, weights, total);
        tokens.clear();
        tokens.extend(kept.iter().map(|candidate| candidate.token));
        if config.temperature == 1.0 {
            weights.clear();
            weights.extend(kept.iter().map(|candidate| candidate.weight));
            return Ok((index as u32, sum(weights)));
        }
        // p^(1/T), from ln p.
        let tempered = |&token: &u32| (f64::from(logits[token as usize] - max) / config.temperature) as f32;
        Ok((index as u32, softmax_weights(tokens.iter().map(tempered), weights)))
    }

    /// Takes note that a token was written, for the penalties. `text` is what it decodes to, if known: only
    /// [`SamplerConfig::exempt_digits`] asks for it. Prompts are not recorded, as in the official `generate`; a caller
    /// who wants them penalised records their tokens.
    pub fn record(&mut self, token: u32, text: Option<&[u8]>) {
        if self.config.penalises() {
            self.written.record(&self.config, token, text);
        }
    }
}

/// The logits after step 1: themselves when nothing changes them, so that they need not be copied.
fn adjust<'a>(
    config: &SamplerConfig,
    written: &Occurrences,
    logits: &'a [f32],
    adjusted: &'a mut Vec<f32>,
) -> Result<&'a [f32]> {
    if written.is_empty() && config.logit_bias.is_empty() && config.ban.is_empty() {
        return Ok(logits);
    }
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    written.apply(config, adjusted)?;
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(config: SamplerConfig, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::from_config(config, 7).expect("valid settings");
        let mut counts = vec![0; logits.len()];
        (0..20_000).for_each(|_| counts[sampler.sample(logits).expect("numbers") as usize] += 1);
        counts
    }

    /// Logits of the probabilities 0.5, 0.3, 0.15, 0.05, in another order.
    fn logits() -> [f32; 4] {
        [0.15f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.3f32.ln()]
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let counts = draw(SamplerConfig::plain(1.0, 1.0, 0), &logits());
        for (count, p) in counts.iter().zip([0.15, 0.5, 0.05, 0.3]) {
            assert!((*count as f32 / 20_000.0 - p).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn temperature_acts_after_the_cut_and_zero_is_greedy() {
        let counts = draw(SamplerConfig::plain(0.5, 0.79, 0), &logits()); // 0.25 : 0.09
        assert!((counts[1] as f32 / 20_000.0 - 0.25 / 0.34).abs() < 0.015, "{counts:?}");
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert_eq!(draw(SamplerConfig::greedy(), &logits()), [0, 20_000, 0, 0]);
        assert_eq!(draw(SamplerConfig::greedy(), &[1.0, 2.0, 2.0]), [0, 20_000, 0], "the lowest id among equals");
        // Neither end of the scale breaks anything.
        assert_eq!(draw(SamplerConfig::plain(1e-30, 1.0, 0), &logits()), [0, 20_000, 0, 0]);
        assert!(draw(SamplerConfig::plain(1e30, 1.0, 0), &logits()).iter().all(|&n| n > 4500));
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_a_clone_goes_on_alike() {
        let mut sampler = Sampler::new(1.0, 0.9, 0, 3).expect("valid settings");
        let draw = |n: usize, sampler: &mut Sampler| -> Vec<u32> {
            (0..n).map(|_| sampler.sample(&logits()).expect("numbers")).collect()
        };
        // Fixed: a change of these numbers changes everybody's texts.
        assert_eq!(draw(12, &mut sampler), [1, 0, 1, 0, 1, 3, 1, 1, 1, 1, 3, 3]);
        let mut fork = sampler.clone();
        assert_eq!(draw(50, &mut sampler), draw(50, &mut fork));
        let mut other = Sampler::new(1.0, 0.9, 0, 4).expect("valid settings");
        assert_ne!(draw(50, &mut sampler), draw(50, &mut other));
    }

    #[test]
    fn written_tokens_become_less_likely_and_bans_hold_when_greedy() {
        let config = SamplerConfig { alpha_presence: 3.0, ..SamplerConfig::greedy() };
        let mut sampler = Sampler::from_config(config, 0).expect("valid settings");
        let mut written = Vec::new();
        for _ in 0..3 {
            let token = sampler.sample(&[2.0, 1.0, 0.0]).expect("numbers");
            sampler.record(token, None);
            written.push(token);
        }
        assert_eq!(written, [0, 1, 2]);
        assert_eq!(draw(SamplerConfig { ban: vec![1], ..SamplerConfig::greedy() }, &logits()), [0, 0, 0, 20_000]);
        let banned = SamplerConfig { ban: vec![1, 3], ..SamplerConfig::plain(1.0, 0.85, 0) };
        let counts = draw(banned, &logits());
        assert!(counts[0] > 0 && counts[1] == 0 && counts[3] == 0, "{counts:?}");
    }

    #[test]
    fn logits_that_cannot_be_drawn_from_are_refused() {
        for config in [SamplerConfig::greedy(), SamplerConfig::default()] {
            let mut sampler = Sampler::from_config(config.clone(), 0).expect("valid settings");
            let said = sampler.sample(&[0.0, f32::NAN]).expect_err("refused").to_string();
            assert!(said.contains("NaN") && said.contains("token 1"), "{said}");
            assert!(sampler.sample(&[]).is_err());
            let all = SamplerConfig { ban: vec![0, 1], ..config };
            let mut sampler = Sampler::from_config(all, 0).expect("valid settings");
            assert!(sampler.sample(&[0.0, 1.0]).expect_err("refused").to_string().contains("banned"));
            assert!(sampler.sample(&[0.0]).expect_err("refused").to_string().starts_with("ban: "));
        }
    }
}
