//! Log-probabilities beside the tokens.

use serde::Serialize;

/// A token and its log-probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its natural log-probability.
    pub logprob: f64,
}

/// Log-probabilities at one step.
///
/// They are those of the model: the log-softmax of its logits, before penalties, bias, bans, cuts and temperature. So
/// they do not depend on how tokens are drawn, and those of a text add up to its log-likelihood.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprobs {
    /// The token that was drawn.
    pub chosen: TokenLogprob,
    /// The most probable tokens, the most probable one first; of equals the one of the lowest id first.
    pub top: Vec<TokenLogprob>,
}

impl Logprobs {
    /// The log-probability of `token` and those of the `count` most probable tokens. `logits` has no NaN.
    pub(super) fn new(logits: &[f32], token: u32, count: usize) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        let normaliser = f64::from(max) + sum.ln();
        let logprob = |token: u32| TokenLogprob { token, logprob: f64::from(logits[token as usize]) - normaliser };
        let by_logit = |i: &u32, j: &u32| logits[*j as usize].total_cmp(&logits[*i as usize]).then(i.cmp(j));
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        if count > 0 && count < order.len() {
            order.select_nth_unstable_by(count - 1, by_logit);
        }
        order.truncate(count);
        order.sort_unstable_by(by_logit);
        Self { chosen: logprob(token), top: order.into_iter().map(logprob).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_log_softmax_in_descending_order() {
        let logits =
            [0.15f32.ln() + 5.0, 0.5f32.ln() + 5.0, 0.05f32.ln() + 5.0, 0.15f32.ln() + 5.0, 0.15f32.ln() + 5.0];
        let logprobs = Logprobs::new(&logits, 2, 3);
        assert!((logprobs.chosen.logprob - 0.05f64.ln()).abs() < 1e-6 && logprobs.chosen.token == 2);
        let tokens: Vec<u32> = logprobs.top.iter().map(|top| top.token).collect();
        assert_eq!(tokens, [1, 0, 3]);
        assert!((logprobs.top[0].logprob - 0.5f64.ln()).abs() < 1e-6);
        assert_eq!(Logprobs::new(&logits, 2, 0).top, []);
        assert_eq!(Logprobs::new(&logits, 2, 9).top.len(), 5);
    }
}
