//! Which tokens may be drawn: the cuts on the distribution at temperature 1.
//!
//! | order | cut | keeps |
//! |---|---|---|
//! | 1 | top-p | `p ≥ c`, `c` the largest value at which the tokens kept reach `top_p`: all of several equals at the cut |
//! | 2 | top-k | the `k` most probable, exactly: of several equals at the cut those with the lowest ids |
//! | 3 | top-a | `p ≥ top_a·p_max²` |
//! | 4 | min-p | `p ≥ min_p·p_max` |
//! | 5 | typical | the tokens of the least \|surprise − mean surprise\| that reach `typical_p` of what is left |
//!
//! The first two stand as in the official `sample_logits`, ties included, except that there the order of a sort decides
//! which of several equals top-k keeps. Each of the first four keeps all tokens from some probability up, and takes that
//! probability from the whole distribution, so their order does not matter. The typical cut does not keep the most
//! probable tokens, so it comes last and sees only what the others left, renormalised: at least one token is always left.
//!
//! Nothing is sorted. A cut that needs an order statistic finds it by selection, in time proportional to the tokens that
//! can still matter: with `top_p` these are the few above `(1 − top_p)/V`, since all below it together are too little to
//! be needed.

use super::SamplerConfig;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    /// `p/p_max` at temperature 1.
    pub(super) weight: f32,
}

/// A token's place in an order, largest first, and its weight.
type Ranked = (f32, f32);

/// Room that every token needs again.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    kept: Vec<Candidate>,
    ranked: Vec<Ranked>,
}

impl Cuts {
    /// The tokens that survive all cuts, by rising id; at least one. `weights` are `p/p_max`, `total` is their sum, and
    /// `logits` are the logits that they were made of.
    pub(super) fn apply(
        &mut self,
        config: &SamplerConfig,
        logits: &[f32],
        weights: &[f32],
        total: f64,
    ) -> &[Candidate] {
        // The reference compares with `top_p` in f32.
        let nucleus = (config.top_p < 1.0).then(|| f64::from(config.top_p as f32) * total);
        // The most probable token's weight is 1, so `p_max = 1/total`.
        let floor = (config.top_a / total).max(config.min_p) as f32;
        let negligible = nucleus.map_or(0.0, |mass| ((total - mass) / weights.len() as f64) as f32 * 0.999);
        self.gather(weights, floor.max(negligible));
        if let Some(mass) = nucleus {
            // The sum runs over the whole distribution; `floor` may have removed a part of it that the nucleus would
            // have kept, and then the nucleus reaches down to the floor.
            let cut = self.mass_cut(mass, |candidate| candidate.weight);
            self.kept.retain(|candidate| candidate.weight >= cut);
        }
        if config.top_k > 0 && config.top_k < self.kept.len() {
            self.keep_largest(config.top_k);
        }
        if config.typical_p < 1.0 {
            self.keep_typical(config.typical_p, logits);
        }
        &self.kept
    }

    /// Collects the tokens of at least this weight, and none of weight 0.
    fn gather(&mut self, weights: &[f32], floor: f32) {
        let floor = floor.clamp(f32::MIN_POSITIVE, 1.0);
        self.kept.clear();
        for (token, &weight) in weights.iter().enumerate() {
            if weight >= floor {
                self.kept.push(Candidate { token: token as u32, weight });
            }
        }
    }

    /// The largest key `c` such that the candidates of keys from `c` up weigh at least `mass`; the smallest key there
    /// is if all of them weigh less.
    fn mass_cut(&mut self, mass: f64, key: impl Fn(&Candidate) -> f32) -> f32 {
        self.ranked.clear();
        self.ranked.extend(self.kept.iter().map(|candidate| (key(candidate), candidate.weight)));
        let mut rest = self.ranked.as_mut_slice();
        let mut above = 0.0;
        while rest.len() > 32 {
            let middle = rest.len() / 2;
            rest.select_nth_unstable_by(middle, descending);
            let (upper, lower) = rest.split_at_mut(middle);
            let weight: f64 = upper.iter().map(|ranked| f64::from(ranked.1)).sum();
            if above + weight >= mass {
                rest = upper;
            } else {
                above += weight;
                rest = lower;
            }
        }
        rest.sort_unstable_by(descending);
        let reached = rest.iter().find(|ranked| {
            above += f64::from(ranked.1);
            above >= mass
        });
        reached.or(rest.last()).map_or(f32::NEG_INFINITY, |ranked| ranked.0)
    }

    fn keep_largest(&mut self, k: usize) {
        self.ranked.clear();
        self.ranked.extend(self.kept.iter().map(|candidate| (candidate.weight, 0.0)));
        let cut = self.ranked.select_nth_unstable_by(k - 1, descending).1.0;
        let above = self.kept.iter().filter(|candidate| candidate.weight > cut).count();
        let mut equals = k - above;
        self.kept.retain(|candidate| {
            let room = candidate.weight == cut && equals > 0;
            equals -= usize::from(room);
            candidate.weight > cut || room
        });
    }

    fn keep_typical(&mut self, share: f64, logits: &[f32]) {
        // The surprise is −ln p = c − logit with the same c for all: differences of logits do, and no logarithm.
        let logit = |candidate: &Candidate| f64::from(logits[candidate.token as usize]);
        let (mut total, mut mean) = (0.0, 0.0);
        for candidate in &self.kept {
            total += f64::from(candidate.weight);
            mean += f64::from(candidate.weight) * logit(candidate);
        }
        mean /= total;
        let nearness = |candidate: &Candidate| -((logit(candidate) - mean).abs() as f32);
        let cut = self.mass_cut(share * total, nearness);
        self.kept.retain(|candidate| nearness(candidate) >= cut);
    }
}

fn descending(a: &Ranked, b: &Ranked) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0)
}

#[cfg(test)]
mod tests {
    use super::super::weights::sum;
    use super::*;

    /// The kept tokens of a distribution given by its probabilities.
    fn kept(config: &SamplerConfig, probabilities: &[f32]) -> Vec<u32> {
        let max = probabilities.iter().copied().fold(0.0, f32::max);
        let weights: Vec<f32> = probabilities.iter().map(|p| p / max).collect();
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let mut cuts = Cuts::default();
        let kept = cuts.apply(config, &logits, &weights, sum(&weights));
        kept.iter().map(|candidate| candidate.token).collect()
    }

    fn plain() -> SamplerConfig {
        SamplerConfig::plain(1.0, 1.0, 0)
    }

    const FOUR: [f32; 4] = [0.15, 0.5, 0.05, 0.3];

    #[test]
    fn the_nucleus_ends_with_the_token_that_reaches_top_p() {
        let top_p = |top_p: f64| kept(&SamplerConfig { top_p, ..plain() }, &FOUR);
        assert_eq!(top_p(0.79), [1, 3]);
        assert_eq!(top_p(0.81), [0, 1, 3]);
        assert_eq!(top_p(0.0), [1]);
        assert_eq!(top_p(1.0), [0, 1, 2, 3]);
        assert_eq!(top_p(0.999_999_9), [0, 1, 2, 3], "rounding does not turn it greedy");
    }

    #[test]
    fn top_p_keeps_all_equals_at_its_cut_and_top_k_only_the_first() {
        let equals = [0.1, 0.2, 0.2, 0.1, 0.2, 0.2];
        assert_eq!(kept(&SamplerConfig { top_p: 0.3, ..plain() }, &equals), [1, 2, 4, 5]);
        assert_eq!(kept(&SamplerConfig { top_k: 3, ..plain() }, &equals), [1, 2, 4]);
        assert_eq!(kept(&SamplerConfig { top_k: 5, ..plain() }, &equals), [0, 1, 2, 4, 5]);
        assert_eq!(kept(&SamplerConfig { top_p: 0.3, top_k: 2, ..plain() }, &equals), [1, 2]);
        assert_eq!(kept(&SamplerConfig { top_k: 9, ..plain() }, &equals).len(), 6);
    }

    #[test]
    fn top_a_and_min_p_are_relative_to_the_most_probable_token() {
        // top_a·p_max² = 0.2·0.25 = 0.05; just above it the last token goes.
        assert_eq!(kept(&SamplerConfig { top_a: 0.199, ..plain() }, &FOUR), [0, 1, 2, 3]);
        assert_eq!(kept(&SamplerConfig { top_a: 0.201, ..plain() }, &FOUR), [0, 1, 3]);
        assert_eq!(kept(&SamplerConfig { min_p: 0.29, ..plain() }, &FOUR), [0, 1, 3]);
        assert_eq!(kept(&SamplerConfig { min_p: 0.31, ..plain() }, &FOUR), [1, 3]);
        assert_eq!(kept(&SamplerConfig { min_p: 1.0, top_a: 1.0, ..plain() }, &FOUR), [1]);
    }

    #[test]
    fn the_typical_cut_may_pass_over_the_most_probable_token() {
        // The mean surprise is 1.14 nats; those of the tokens are 1.90, 0.69, 3.00 and 1.20.
        assert_eq!(kept(&SamplerConfig { typical_p: 0.2, ..plain() }, &FOUR), [3]);
        assert_eq!(kept(&SamplerConfig { typical_p: 0.7, ..plain() }, &FOUR), [1, 3]);
        // After a top-p that leaves one token there is one token.
        assert_eq!(kept(&SamplerConfig { typical_p: 0.2, top_p: 0.1, ..plain() }, &FOUR), [1]);
        assert_eq!(kept(&SamplerConfig { typical_p: 0.0, ..plain() }, &FOUR), [3]);
    }

    /// Against a full sort, on distributions large enough for the selection to take several rounds.
    #[test]
    fn selection_finds_what_a_sort_finds() {
        let mut x = 1u32;
        let mut noise = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(x >> 8) / f64::from(1 << 24)
        };
        for sharpness in [0.0, 1.0, 6.0] {
            // Coarse values, so that there are ties.
            let p: Vec<f32> = (0..5000).map(|_| (sharpness * (noise() * 200.0).round() / 100.0).exp() as f32).collect();
            let max = p.iter().copied().fold(0.0, f32::max);
            let weights: Vec<f32> = p.iter().map(|p| p / max).collect();
            let total = sum(&weights);
            for top_p in [0.01, 0.3, 0.85, 0.999] {
                let mut sorted = weights.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let mut mass = 0.0;
                let cut = sorted.iter().find(|&&weight| {
                    mass += f64::from(weight);
                    mass >= f64::from(top_p as f32) * total
                });
                let cut = *cut.expect("reached");
                let expected: Vec<u32> = (0..5000).filter(|&i| weights[i as usize] >= cut).collect();
                let mut cuts = Cuts::default();
                let got = cuts.apply(&SamplerConfig { top_p, ..plain() }, &[], &weights, total);
                assert_eq!(got.iter().map(|c| c.token).collect::<Vec<_>>(), expected, "{sharpness} {top_p}");
            }
        }
    }
}
