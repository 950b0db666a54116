//! Drawing one token from the logits of the released models' vocabularies.
//!
//! `cargo bench -p rwkv-core --bench sampler`. Two kinds of logits: some as a trained model's, whose probabilities fall
//! with a power of the rank, and some as an untrained one's, all of them nearly equal, which is every cut's worst case.
#![allow(missing_docs, clippy::unwrap_used)]

use divan::Bencher;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rwkv_core::config::{PILE_VOCAB, WORLD_VOCAB};
use rwkv_core::generate::{Sampler, SamplerConfig};

fn main() {
    divan::main();
}

const VOCABULARIES: [usize; 2] = [PILE_VOCAB, WORLD_VOCAB];

/// Probabilities near `rank^−1.5`, in random order.
fn trained(vocab_size: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut logits: Vec<f32> =
        (1..=vocab_size).map(|rank| -1.5 * (rank as f32).ln() + rng.random_range(-1.0..1.0)).collect();
    logits.shuffle(&mut rng);
    logits
}

fn untrained(vocab_size: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(1);
    (0..vocab_size).map(|_| rng.random_range(-0.1..0.1)).collect()
}

fn sample(bencher: Bencher, config: SamplerConfig, logits: Vec<f32>) {
    let mut sampler = Sampler::from_config(config, 0).unwrap();
    bencher.bench_local(|| sampler.sample(divan::black_box(&logits)).unwrap());
}

macro_rules! benches {
    ($($name:ident: $config:expr;)*) => {
        mod trained {
            use super::*;
            $(#[divan::bench(args = VOCABULARIES)]
            fn $name(bencher: Bencher, vocab_size: usize) {
                sample(bencher, $config, super::trained(vocab_size));
            })*
        }
        mod untrained {
            use super::*;
            $(#[divan::bench(args = VOCABULARIES)]
            fn $name(bencher: Bencher, vocab_size: usize) {
                sample(bencher, $config, super::untrained(vocab_size));
            })*
        }
    };
}

benches! {
    greedy: SamplerConfig::greedy();
    temperature_alone: SamplerConfig::plain(0.8, 1.0, 0);
    top_p: SamplerConfig::plain(1.0, 0.85, 0);
    top_k: SamplerConfig::plain(1.0, 1.0, 40);
    min_p: SamplerConfig { min_p: 0.05, ..SamplerConfig::plain(1.0, 1.0, 0) };
    typical: SamplerConfig { typical_p: 0.9, ..SamplerConfig::plain(1.0, 1.0, 0) };
}

/// With the official defaults after a text of 200 distinct tokens, whose penalties make a copy of the logits.
#[divan::bench(args = VOCABULARIES)]
fn official_defaults_with_penalties(bencher: Bencher, vocab_size: usize) {
    let logits = trained(vocab_size);
    let mut sampler = Sampler::from_config(SamplerConfig::default(), 0).unwrap();
    (0..200).for_each(|i| sampler.record(i * 31, None));
    bencher.bench_local(|| {
        let token = sampler.sample(divan::black_box(&logits)).unwrap();
        sampler.record(i32::from(token > 7) as u32, None);
        token
    });
}
