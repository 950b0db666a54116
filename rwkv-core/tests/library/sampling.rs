//! Sampling against the PyPI package `rwkv` (`fixtures/make_generation_fixtures.py`).

use crate::fixture::Fixture;
use rwkv_core::generate::{Sampler, SamplerConfig};

/// The largest distance of two distributions, one of them given by its tokens.
fn distance(got: &[(u32, f64)], want: &[f64]) -> f64 {
    let mut dense = vec![0.0; want.len()];
    got.iter().for_each(|&(token, p)| dense[token as usize] = p);
    dense.iter().zip(want).fold(0.0, |worst, (got, want)| f64::max(worst, (got - want).abs()))
}

fn kept(want: &[f64]) -> Vec<u32> {
    (0..want.len() as u32).filter(|&token| want[token as usize] > 0.0).collect()
}

#[test]
fn the_same_tokens_are_kept_with_the_same_probabilities() {
    let fixture = Fixture::open("sampling_expected");
    let mut worst = 0.0f64;
    for case in 0..30 {
        let logits: Vec<f32> = fixture.values(&format!("{case}.logits")).into_iter().map(|x| x as f32).collect();
        let settings = fixture.values(&format!("{case}.settings"));
        let want = fixture.values(&format!("{case}.probabilities"));
        let mut sampler = Sampler::new(settings[0], settings[1], settings[2] as usize, 0).expect("valid settings");
        let got = sampler.distribution(&logits).expect("numbers");
        assert_eq!(got.iter().map(|&(token, _)| token).collect::<Vec<_>>(), kept(&want), "case {case}: {settings:?}");
        worst = worst.max(distance(&got, &want));
    }
    println!("largest distance of a probability: {worst:.2e}");
    assert!(worst < 1e-6);
}

/// The penalties as `generate` applies them: counts that fade, digits that do not count, a banned token.
#[test]
fn penalties_are_those_of_the_official_generate() {
    const TEXTS: [&str; 12] = ["a", "b", "12", "never", " ", "21", "", "0", "c", "\n", "\u{fffd}", "7"];
    let fixture = Fixture::open("sampling_expected");
    let config = SamplerConfig {
        alpha_presence: 0.4,
        alpha_frequency: 0.3,
        alpha_decay: 0.9,
        exempt_digits: true,
        ban: vec![3],
        ..SamplerConfig::plain(0.8, 0.9, 0)
    };
    let mut sampler = Sampler::from_config(config, 0).expect("valid settings");
    let (logits, want) = (fixture.values("generate.logits"), fixture.values("generate.probabilities"));
    let tokens = fixture.values("generate.tokens");
    let mut worst = 0.0f64;
    for (step, &token) in tokens.iter().enumerate() {
        let row = step * TEXTS.len()..(step + 1) * TEXTS.len();
        let logits: Vec<f32> = logits[row.clone()].iter().map(|&x| x as f32).collect();
        let got = sampler.distribution(&logits).expect("numbers");
        assert_eq!(got.iter().map(|&(token, _)| token).collect::<Vec<_>>(), kept(&want[row.clone()]), "step {step}");
        worst = worst.max(distance(&got, &want[row]));
        sampler.record(token as u32, Some(TEXTS[token as usize].as_bytes()));
    }
    println!("largest distance of a probability: {worst:.2e}");
    assert!(worst < 1e-6);
}

/// A draw takes the token at its place in the cumulative distribution, by rising id.
#[test]
fn draws_follow_the_distribution() {
    let fixture = Fixture::open("sampling_expected");
    let logits: Vec<f32> = fixture.values("12.logits").into_iter().map(|x| x as f32).collect();
    let mut sampler = Sampler::new(1.5, 0.95, 0, 11).expect("valid settings");
    let expected = sampler.distribution(&logits).expect("numbers");
    let draws = 200_000;
    let mut counts = vec![0usize; logits.len()];
    (0..draws).for_each(|_| counts[sampler.sample(&logits).expect("numbers") as usize] += 1);
    // Chi-squared with n − 1 degrees of freedom is within six deviations of its mean.
    let chi: f64 = expected
        .iter()
        .map(|&(token, p)| (counts[token as usize] as f64 - p * f64::from(draws)).powi(2) / (p * f64::from(draws)))
        .sum();
    let freedom = expected.len() as f64 - 1.0;
    println!("chi-squared {chi:.1} with {freedom} degrees of freedom");
    assert!(freedom > 10.0 && (chi - freedom).abs() < 6.0 * (2.0 * freedom).sqrt());
    let drawn: usize = expected.iter().map(|&(token, _)| counts[token as usize]).sum();
    assert_eq!(drawn, 200_000, "nothing else is drawn");
}
