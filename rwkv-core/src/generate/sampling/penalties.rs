//! What is done to logits before the softmax: repetition, bias, bans, presence and frequency.

use super::SamplerConfig;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The characters whose repetition [`SamplerConfig::exempt_digits`] does not count.
const DIGITS_AND_SPACE: &[u8] = b" \t0123456789";

/// How often each token was written; old mentions fade.
///
/// # Source
/// `occurrence` in the official `pipeline.generate`.
#[derive(Debug, Clone, Default)]
pub(super) struct Occurrences {
    counts: BTreeMap<u32, f64>,
}

impl Occurrences {
    /// Counts a token: `n ← decay·n` for all, then one more for this one, or none more if its text is exempt.
    pub(super) fn record(&mut self, config: &SamplerConfig, token: u32, text: Option<&[u8]>) {
        if config.alpha_decay < 1.0 {
            self.counts.values_mut().for_each(|count| *count *= config.alpha_decay);
        }
        let exempt = config.exempt_digits && text.is_some_and(is_exempt);
        *self.counts.entry(token).or_default() += if exempt { 0.0 } else { 1.0 };
    }

    /// Whether any token was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Changes the logits.
    ///
    /// The repetition penalty comes first: it depends on a logit's sign, which the additive changes move. Then come
    /// the bias, the bans, and presence and frequency in the official order; sums do not depend on it.
    ///
    /// # Errors
    /// [`Error::Config`] for a bias, a ban or a count of a token that the logits do not have.
    pub(super) fn apply(&self, config: &SamplerConfig, logits: &mut [f32]) -> Result<()> {
        config.check_vocabulary(logits.len())?;
        let known = logits.len();
        if let Some(token) = self.counts.keys().find(|&&token| token as usize >= known) {
            return Err(Error::config("written", format!("token ids below {known}"), token));
        }
        let change = |logit: &mut f32, to: &dyn Fn(f64) -> f64| *logit = to(f64::from(*logit)) as f32;
        if config.repetition_penalty != 1.0 {
            let penalty = config.repetition_penalty;
            for &token in self.counts.keys() {
                change(&mut logits[token as usize], &|x| if x > 0.0 { x / penalty } else { x * penalty });
            }
        }
        for &(token, bias) in &config.logit_bias {
            change(&mut logits[token as usize], &|x| x + bias);
        }
        for &token in &config.ban {
            logits[token as usize] = f32::NEG_INFINITY;
        }
        for (&token, &count) in &self.counts {
            let penalty = config.alpha_presence + count * config.alpha_frequency;
            change(&mut logits[token as usize], &|x| x - penalty);
        }
        Ok(())
    }
}

/// Whether this text is a part of `" \t0123456789"`, the empty text and "12" included, "21" not.
fn is_exempt(text: &[u8]) -> bool {
    text.is_empty() || DIGITS_AND_SPACE.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SamplerConfig {
        SamplerConfig {
            alpha_presence: 0.5,
            alpha_frequency: 0.25,
            alpha_decay: 0.5,
            ..SamplerConfig::plain(1.0, 1.0, 0)
        }
    }

    fn applied(config: &SamplerConfig, seen: &Occurrences, logits: &[f32]) -> Vec<f32> {
        let mut logits = logits.to_vec();
        seen.apply(config, &mut logits).expect("ids in range");
        logits
    }

    #[test]
    fn counts_fade_before_the_new_token_adds_its_own() {
        let (config, mut seen) = (config(), Occurrences::default());
        for token in [1, 1, 2] {
            seen.record(&config, token, None);
        }
        // Token 1: (1·0.5 + 1)·0.5 = 0.75; token 2: 1.
        assert_eq!(applied(&config, &seen, &[0.0; 3]), [0.0, -(0.5 + 0.75 * 0.25), -(0.5 + 0.25)]);
    }

    #[test]
    fn digits_and_spaces_are_present_but_not_counted_when_exempt() {
        let config = SamplerConfig { exempt_digits: true, ..config() };
        for (text, counted) in
            [("12", false), ("", false), (" ", false), ("\t0", false), ("21", true), ("a", true), ("\n", true)]
        {
            let mut seen = Occurrences::default();
            seen.record(&config, 0, Some(text.as_bytes()));
            let expected = if counted { -0.75 } else { -0.5 };
            assert_eq!(applied(&config, &seen, &[0.0]), [expected], "{text:?}");
        }
        let mut seen = Occurrences::default();
        seen.record(&SamplerConfig { exempt_digits: false, ..config }, 0, Some(b"12"));
        assert_eq!(applied(&self::config(), &seen, &[0.0]), [-0.75]);
    }

    #[test]
    fn a_repeated_token_becomes_less_likely_whatever_its_sign() {
        let config = SamplerConfig { repetition_penalty: 2.0, ..SamplerConfig::plain(1.0, 1.0, 0) };
        let mut seen = Occurrences::default();
        seen.record(&config, 0, None);
        seen.record(&config, 1, None);
        assert_eq!(applied(&config, &seen, &[4.0, -4.0, 4.0]), [2.0, -8.0, 4.0]);
    }

    #[test]
    fn bias_adds_and_a_ban_wins() {
        let config =
            SamplerConfig { logit_bias: vec![(0, 2.0), (1, 100.0)], ban: vec![1], ..SamplerConfig::plain(1.0, 1.0, 0) };
        let logits = applied(&config, &Occurrences::default(), &[1.0, 1.0, 1.0]);
        assert_eq!(logits, [3.0, f32::NEG_INFINITY, 1.0]);
        let said = Occurrences::default().apply(&config, &mut [1.0]).expect_err("no token 1").to_string();
        assert_eq!(said, "logit_bias: expected token ids below 1, found 1");
        let (plain, mut seen) = (SamplerConfig::plain(1.0, 1.0, 0), Occurrences::default());
        seen.record(&plain, 7, None);
        assert!(seen.apply(&plain, &mut [1.0; 7]).expect_err("no token 7").to_string().contains("found 7"));
    }
}
