//! The measurement of one model.

use super::{Latency, OfModel, Read, Written};
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::error::{Error, Result};
use rwkv_core::generate::prefill;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use std::time::Instant;

/// Tokens before anything is timed: kernels are compiled and threads started on first use.
const WARM_UP: usize = 4;
/// Points of the curves over the written text.
const POINTS: usize = 64;
/// Parts of the text whose latencies are told apart.
const PARTS: usize = 4;

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Tokens to write.
    pub tokens: usize,
    /// Lengths of prompts to read.
    pub prompts: Vec<usize>,
    /// How often everything is done.
    pub repeats: usize,
}

/// Writes and reads with a model, and takes the time. `progress` is told after every token that is written or prompt that is
/// read how much of how much is done.
///
/// Every token is the most probable one after those before; the time of a token ends when its logits are on the host.
///
/// # Errors
/// [`Error::Config`] for nothing to do.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_eval::speed::{Options, measure};
/// # #[cfg(feature = "flex")] {
/// let options = Options { tokens: 8, prompts: vec![4, 16], repeats: 2 };
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::gpt_neox(65, 2, 32, 2), 0, &Default::default());
/// let curves = measure(&model, "Transformer", &options, &mut |_, _| {}).unwrap();
/// let [first, .., last] = curves.writing[..] else { panic!() };
/// assert!(last.tokens == 8 && last.state_bytes > first.state_bytes);
/// # }
/// ```
pub fn measure<B: RwkvBackend>(
    model: &Rwkv<B>,
    label: &str,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<OfModel> {
    let Options { tokens, ref prompts, repeats } = *options;
    if tokens == 0 || repeats == 0 || prompts.contains(&0) {
        return Err(Error::config("tokens, prompts, repeats", "positive numbers", format!("{options:?}")));
    }
    let total = repeats * (tokens + prompts.iter().sum::<usize>());
    let mut done = 0;
    let mut step = |count: usize| {
        done += count;
        progress(done, total);
    };
    write(model, WARM_UP, &mut |_, _| {});
    let mut texts: Vec<Text> = Vec::new();
    for _ in 0..repeats {
        let mut text = Text { seconds: Vec::with_capacity(tokens), memory: Vec::with_capacity(tokens) };
        let before = resident_bytes();
        write(model, tokens, &mut |seconds, state_bytes| {
            let grown = resident_bytes().zip(before).map(|(now, before)| now.saturating_sub(before));
            text.seconds.push(seconds);
            text.memory.push((state_bytes, grown));
            step(1);
        });
        texts.push(text);
    }
    let mut reading = Vec::new();
    for &length in prompts {
        let prompt: Vec<u32> = (0..length).map(|i| (i * 7919 % model.config().vocab_size) as u32).collect();
        let mut times = Vec::new();
        for _ in 0..repeats {
            let started = Instant::now();
            let (logits, _) = prefill(model, model.zero_state(1), &prompt)?;
            logits.into_data(); // waits for the device
            times.push(started.elapsed().as_secs_f64());
            step(length);
        }
        reading.push(Read { tokens: length, seconds: quantile(&mut times, 0.5) });
    }
    Ok(OfModel {
        label: label.to_owned(),
        params: model.num_params_lazy(),
        writing: writing(&texts),
        latencies: latencies(&texts),
        reading,
    })
}

/// One repetition: seconds of every token, and state and memory after it.
struct Text {
    seconds: Vec<f64>,
    memory: Vec<(usize, Option<u64>)>,
}

/// Writes from the empty state.
fn write<B: RwkvBackend>(model: &Rwkv<B>, tokens: usize, written: &mut dyn FnMut(f64, usize)) {
    let device = model.device();
    let (mut state, mut token) = (model.zero_state(1), 0i64);
    for _ in 0..tokens {
        let started = Instant::now();
        let input = Tensor::<B, 1, Int>::from_data(TensorData::new(vec![token], [1]), &device);
        let (logits, next) = model.step(input, state);
        state = next;
        let logits = logits.into_data();
        let best = logits.iter::<f32>().enumerate();
        token = best.fold((0, f32::NEG_INFINITY), |max, (i, x)| if x > max.1 { (i as i64, x) } else { max }).0;
        let seconds = started.elapsed().as_secs_f64();
        written(seconds, state.size_bytes());
    }
}

fn writing(texts: &[Text]) -> Vec<Written> {
    let tokens = texts[0].seconds.len();
    let sums = |text: &Text| {
        let running = text.seconds.iter().scan(0.0, |sum, seconds| {
            *sum += seconds;
            Some(*sum)
        });
        running.collect::<Vec<f64>>()
    };
    let sums: Vec<Vec<f64>> = texts.iter().map(sums).collect();
    let mut counts: Vec<usize> = (1..=POINTS).map(|i| (i * tokens).div_ceil(POINTS)).collect();
    counts.insert(0, 1);
    counts.dedup();
    let at = |count: usize| Written {
        tokens: count,
        seconds: quantile(&mut sums.iter().map(|sums| sums[count - 1]).collect::<Vec<_>>(), 0.5),
        state_bytes: texts[0].memory[count - 1].0,
        grown_bytes: texts.iter().map(|text| text.memory[count - 1].1).max().flatten(),
    };
    counts.into_iter().map(at).collect()
}

fn latencies(texts: &[Text]) -> Vec<Latency> {
    let tokens = texts[0].seconds.len();
    let parts = PARTS.min(tokens);
    let part = |i: usize| {
        let (from, to) = (i * tokens / parts, (i + 1) * tokens / parts);
        let mut seconds: Vec<f64> = texts.iter().flat_map(|text| &text.seconds[from..to]).copied().collect();
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(&mut seconds, share));
        Latency { from, to, p50, p90, p99 }
    };
    (0..parts).map(part).collect()
}

/// The smallest of these values that at least this share of them does not exceed.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1]
}

/// What the process takes of main memory now, as Linux tells it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.5, 0.9, 0.99, 0.2, 0.0].map(|share| quantile(&mut values, share)), [3.0, 5.0, 5.0, 1.0, 1.0]);
    }

    #[test]
    fn curves_are_medians_of_sums_and_the_most_memory() {
        let text = |scale: f64, grown: u64| Text {
            seconds: (0..100).map(|_| scale).collect(),
            memory: (0..100).map(|i| (10 * (i + 1), Some(grown + i as u64))).collect(),
        };
        let texts = [text(1.0, 5), text(3.0, 7), text(2.0, 0)];
        let writing = writing(&texts);
        assert_eq!((writing[0].tokens, writing[0].seconds), (1, 2.0));
        let last = writing.last().expect("points");
        assert_eq!((last.tokens, last.seconds, last.state_bytes, last.grown_bytes), (100, 200.0, 1000, Some(106)));
        assert!(writing.windows(2).all(|pair| pair[0].tokens < pair[1].tokens));
        let parts = latencies(&texts);
        assert_eq!(
            parts.iter().map(|part| (part.from, part.to)).collect::<Vec<_>>(),
            [(0, 25), (25, 50), (50, 75), (75, 100)]
        );
        assert_eq!((parts[3].p50, parts[3].p99), (2.0, 3.0));
    }

    #[cfg(feature = "flex")]
    #[test]
    fn rwkvs_state_stays_and_the_cache_grows() {
        use rwkv_core::config::RwkvConfig;
        let options = Options { tokens: 12, prompts: vec![5], repeats: 1 };
        let states = |config: RwkvConfig| {
            let model = Rwkv::<burn::backend::Flex>::new(&config, 0, &Default::default());
            let mut seen = (0, 0);
            let curves = measure(&model, "x", &options, &mut |done, total| seen = (done, total)).expect("measured");
            assert_eq!(seen, (17, 17));
            curves.writing.iter().map(|at| at.state_bytes).collect::<Vec<_>>()
        };
        let rwkv = states(RwkvConfig::new(9, 2, 16));
        assert!(rwkv.iter().all(|&bytes| bytes == rwkv[0]));
        let transformer = states(RwkvConfig::gpt_neox(9, 2, 16, 2));
        assert!(transformer.windows(2).all(|pair| pair[1] - pair[0] == 2 * 4 * (2 * 16 + 1)));
    }
}
