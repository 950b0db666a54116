//! The settings of a sampler.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How tokens are drawn from logits; see [`Sampler`](super::Sampler) for what each setting does and in which order.
///
/// The default is the official `PIPELINE_ARGS`: temperature 1, top-p 0.85, no top-k, presence and frequency penalties
/// of 0.2 that decay by 0.996 a token, nothing banned; every setting that the official package lacks is off. The
/// penalties are made for vocabularies of words: a model of characters or bytes writes better without them, see
/// [`plain`](Self::plain).
///
/// # Source
/// `PIPELINE_ARGS` of the PyPI package `rwkv`; top-a of the RWKV-LM README; min-p of Nguyen et al., arXiv 2407.01082;
/// typical sampling of Meister et al., arXiv 2202.00666; repetition penalty of Keskar et al., arXiv 1909.05858.
///
/// # Example
/// ```
/// use rwkv_core::generate::{Sampler, SamplerConfig};
/// let config = SamplerConfig { temperature: 0.7, min_p: 0.05, ..SamplerConfig::default() };
/// assert!(Sampler::from_config(config, 42).is_ok());
/// let wrong = SamplerConfig { top_p: 1.5, ..SamplerConfig::default() };
/// assert_eq!(wrong.validate().unwrap_err().to_string(), "top_p: expected a number from 0 to 1, found 1.5");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplerConfig {
    /// `T` of the last step, `p^(1/T)`; 0 always takes the most probable token, the one of the lowest id among equals.
    pub temperature: f64,
    /// Keep the most probable tokens that together reach this probability; 1 keeps all, 0 the most probable one and its
    /// equals.
    pub top_p: f64,
    /// Keep this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens with `p ≥ top_a · p_max²`; 0 keeps all.
    pub top_a: f64,
    /// Keep tokens with `p ≥ min_p · p_max`; 0 keeps all.
    pub min_p: f64,
    /// Keep the tokens whose surprise is nearest to the mean surprise and that together reach this probability; 1 keeps
    /// all.
    pub typical_p: f64,
    /// Subtracted from the logit of every token that was written.
    pub alpha_presence: f64,
    /// Subtracted from a token's logit for each time that it was written.
    pub alpha_frequency: f64,
    /// Every count is multiplied by this when a token is written, so that old ones fade.
    pub alpha_decay: f64,
    /// Divides positive logits, and multiplies negative ones, of tokens that were written; 1 changes nothing.
    pub repetition_penalty: f64,
    /// Do not count tokens whose text is a part of `" \t0123456789"`, as the official `generate` does: tables and
    /// numbers repeat them by nature. Their presence is penalised all the same. Needs decoded text.
    pub exempt_digits: bool,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f64)>,
    /// Tokens that are never drawn.
    pub ban: Vec<u32>,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { top_p: 0.85, alpha_presence: 0.2, alpha_frequency: 0.2, alpha_decay: 0.996, ..Self::plain(1.0, 1.0, 0) }
    }
}

impl SamplerConfig {
    /// Temperature, top-p and top-k alone: no penalties.
    #[must_use]
    pub fn plain(temperature: f64, top_p: f64, top_k: usize) -> Self {
        Self {
            temperature,
            top_p,
            top_k,
            top_a: 0.0,
            min_p: 0.0,
            typical_p: 1.0,
            alpha_presence: 0.0,
            alpha_frequency: 0.0,
            alpha_decay: 1.0,
            repetition_penalty: 1.0,
            exempt_digits: false,
            logit_bias: Vec::new(),
            ban: Vec::new(),
        }
    }

    /// Always the most probable token.
    #[must_use]
    pub fn greedy() -> Self {
        Self::plain(0.0, 1.0, 0)
    }

    /// Checks every setting by itself.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first field out of its range.
    pub fn validate(&self) -> Result<()> {
        let from_zero = |x: f64| x.is_finite() && x >= 0.0;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let checks = [
            ("temperature", self.temperature, from_zero(self.temperature), "a number from 0 up"),
            ("top_p", self.top_p, share(self.top_p), "a number from 0 to 1"),
            ("top_a", self.top_a, share(self.top_a), "a number from 0 to 1"),
            ("min_p", self.min_p, share(self.min_p), "a number from 0 to 1"),
            ("typical_p", self.typical_p, share(self.typical_p), "a number from 0 to 1"),
            ("alpha_presence", self.alpha_presence, self.alpha_presence.is_finite(), "a finite number"),
            ("alpha_frequency", self.alpha_frequency, self.alpha_frequency.is_finite(), "a finite number"),
            ("alpha_decay", self.alpha_decay, share(self.alpha_decay), "a number from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0,
                "a number above 0",
            ),
        ];
        for (key, found, fits, expected) in checks {
            if !fits {
                return Err(Error::config(key, expected, found));
            }
        }
        match self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            None => Ok(()),
            Some((token, bias)) => {
                Err(Error::config("logit_bias", "finite numbers", format!("{bias} for token {token}")))
            }
        }
    }

    /// Checks that the banned and biased tokens exist.
    ///
    /// # Errors
    /// [`Error::Config`] for an id that a vocabulary of this size does not have.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<()> {
        let biased = self.logit_bias.iter().map(|&(token, _)| ("logit_bias", token));
        let banned = self.ban.iter().map(|&token| ("ban", token));
        match biased.chain(banned).find(|&(_, token)| token as usize >= vocab_size) {
            None => Ok(()),
            Some((key, token)) => Err(Error::config(key, format!("token ids below {vocab_size}"), token)),
        }
    }

    /// Whether logits are changed before the softmax, for any token that was written.
    pub(super) fn penalises(&self) -> bool {
        self.alpha_presence != 0.0 || self.alpha_frequency != 0.0 || self.repetition_penalty != 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = fn(&mut SamplerConfig, f64);

    #[test]
    fn a_setting_out_of_range_is_refused_by_name() {
        let fields: [(&str, Set, &[f64]); 9] = [
            ("temperature", |c, x| c.temperature = x, &[-1.0, f64::INFINITY]),
            ("top_p", |c, x| c.top_p = x, &[-0.1, 1.1]),
            ("top_a", |c, x| c.top_a = x, &[-0.1, 1.1]),
            ("min_p", |c, x| c.min_p = x, &[-0.1, 1.1]),
            ("typical_p", |c, x| c.typical_p = x, &[-0.1, 1.1]),
            ("alpha_presence", |c, x| c.alpha_presence = x, &[f64::INFINITY]),
            ("alpha_frequency", |c, x| c.alpha_frequency = x, &[f64::NEG_INFINITY]),
            ("alpha_decay", |c, x| c.alpha_decay = x, &[-0.1, 1.1]),
            ("repetition_penalty", |c, x| c.repetition_penalty = x, &[0.0, -1.0, f64::INFINITY]),
        ];
        for (name, set, values) in fields {
            for &value in values.iter().chain(&[f64::NAN]) {
                let mut config = SamplerConfig::default();
                set(&mut config, value);
                let said = config.validate().expect_err("refused").to_string();
                assert!(said.starts_with(&format!("{name}: ")), "{name} = {value}: {said}");
            }
        }
        let config = SamplerConfig { logit_bias: vec![(3, f64::NAN)], ..SamplerConfig::default() };
        assert!(config.validate().expect_err("refused").to_string().contains("token 3"));
        assert!(SamplerConfig::default().validate().is_ok() && SamplerConfig::greedy().validate().is_ok());
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_refused() {
        let config = SamplerConfig { ban: vec![9], logit_bias: vec![(4, 1.0)], ..SamplerConfig::default() };
        assert!(config.check_vocabulary(10).is_ok());
        assert!(config.check_vocabulary(9).expect_err("refused").to_string().starts_with("ban: "));
        assert!(config.check_vocabulary(4).expect_err("refused").to_string().starts_with("logit_bias: "));
    }

    #[test]
    fn a_file_names_what_it_changes_and_nothing_unknown() {
        let config: SamplerConfig =
            serde_json::from_str(r#"{"temperature": 0.5, "ban": [0], "logit_bias": [[7, -1.5]]}"#).expect("reads");
        let expected =
            SamplerConfig { temperature: 0.5, ban: vec![0], logit_bias: vec![(7, -1.5)], ..SamplerConfig::default() };
        assert_eq!(config, expected);
        let again = serde_json::to_string(&config).expect("writes");
        assert_eq!(serde_json::from_str::<SamplerConfig>(&again).expect("reads"), config);
        let said = serde_json::from_str::<SamplerConfig>(r#"{"top_q": 1}"#).expect_err("refused").to_string();
        assert!(said.contains("top_q"), "{said}");
    }
}
