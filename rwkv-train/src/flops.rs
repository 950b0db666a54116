//! Floating-point operations of training, and the share of a device's peak that they amount to.

use burn::tensor::backend::{Backend, ExecutionError};
use burn::tensor::{Int, Tensor};
use rwkv_core::config::RwkvConfig;
use std::time::Instant;

/// Floating-point operations that one trained token takes in samples of `ctx_len` tokens: `6·(V·C + L·(4·A·C + 2·C·F + C²))`.
///
/// Attention, where it stands in the place of the time-mix, adds its products with the tokens before: `6·2·A·(T + 1)/2` a layer,
/// half of the full square; the Transformer's MLP has no `C²`.
///
/// That is 2 operations for every entry of the matrices in the forward pass and 4 in the backward pass; with the released
/// models' `A = C`, `F = 4C` it is `6·(V·C + 13·C²·L)`. The embedding is a lookup and counts nothing. WKV, layer norms and
/// the other operations per channel are left out: WKV takes some 23 operations per channel, layer and token, below 1 % of
/// the matrices' from `C = 128` on. What gradient checkpointing computes a second time is left out, too: it is a cost
/// of the method, not work on the model.
///
/// # Source
/// Reference §2.1: twice `V·C + 13·C²·L` is what the paper's table holds for a forward pass.
///
/// # Example
/// ```
/// use rwkv_core::config::{PILE_VOCAB, RwkvConfig};
/// use rwkv_train::flops;
/// let config = RwkvConfig::rwkv4_169m(PILE_VOCAB);
/// assert_eq!(flops::per_token(&config, 1024), 6.0 * (50_277.0 * 768.0 + 13.0 * 768.0 * 768.0 * 12.0));
/// ```
#[must_use]
pub fn per_token(config: &RwkvConfig, ctx_len: usize) -> f64 {
    let [vocab, width] = [config.vocab_size, config.n_embd].map(|size| size as f64);
    6.0 * (vocab * width + config.mixers.multiply_adds(config, ctx_len))
}

/// Model FLOPs utilisation: `tokens per second · operations per token / peak`.
///
/// # Example
/// ```
/// use rwkv_train::flops::Meter;
/// let meter = Meter { per_token: 1e9, peak: Some(1e13) };
/// assert_eq!(meter.mfu(4000.0), Some(0.4));
/// assert_eq!(Meter { peak: None, ..meter }.mfu(4000.0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meter {
    /// Floating-point operations per trained token ([`per_token`]).
    pub per_token: f64,
    /// The device's peak in operations per second: its data sheet's, or [`measured_peak`]; without one there is no MFU.
    pub peak: Option<f64>,
}

impl Meter {
    /// For a model that reads so many tokens at once, on a device with this peak.
    #[must_use]
    pub fn new(config: &RwkvConfig, ctx_len: usize, peak: Option<f64>) -> Self {
        Self { per_token: per_token(config, ctx_len), peak }
    }

    /// The share of the peak that this speed amounts to.
    #[must_use]
    pub fn mfu(&self, tokens_per_second: f64) -> Option<f64> {
        self.peak.map(|peak| tokens_per_second * self.per_token / peak)
    }
}

/// Seconds that [`measured_peak`] spends about on the products of one size.
const PER_SIZE_S: f64 = 0.1;
/// Growing the matrices goes on while the next size's product is expected to be faster than this.
const LONGEST_S: f64 = 0.4;
const SMALLEST: usize = 256;
const LARGEST: usize = 8192;

/// The rate at which the device multiplies square matrices of its default float type, in operations per second.
///
/// The matrices grow from 256 to 8192 until two sizes in a row bring less than 5 %, which takes about a second; a GPU
/// that tunes its kernels on first use takes longer the first time. A product of `n × n` matrices counts `2·n³`
/// operations. A machine that is busy with other things measures low.
///
/// # Errors
/// When the device fails.
///
/// # Example
/// ```no_run
/// let peak = rwkv_train::flops::measured_peak::<burn::backend::Flex>(&Default::default()).unwrap();
/// println!("{:.1} GFLOP/s", peak / 1e9);
/// ```
pub fn measured_peak<B: Backend>(device: &B::Device) -> Result<f64, ExecutionError> {
    let (mut size, mut best, mut stable) = (SMALLEST, 0.0, 0);
    loop {
        let (rate, product_s) = measure::<B>(size, device)?;
        stable = if rate < 1.05 * best { stable + 1 } else { 0 };
        best = rate.max(best);
        // Twice the size is eight times the work.
        if stable == 2 || size == LARGEST || 8.0 * product_s > LONGEST_S {
            return Ok(best);
        }
        size *= 2;
    }
}

/// Operations per second, and seconds per product.
fn measure<B: Backend>(size: usize, device: &B::Device) -> Result<(f64, f64), ExecutionError> {
    // Not random: the backend's generator is left as it was.
    let saw =
        Tensor::<B, 1, Int>::arange(0..(size * size) as i64, device).remainder_scalar(1021).float() / 1021.0 - 0.5;
    let (a, b) = (saw.clone().reshape([size, size]), saw.neg().reshape([size, size]));
    let products = |count: usize| {
        let started = Instant::now();
        for _ in 0..count {
            let _ = a.clone().matmul(b.clone());
        }
        B::sync(device)?;
        Ok(started.elapsed().as_secs_f64())
    };
    products(1)?; // compiles and tunes
    let mut count = 1;
    let seconds = loop {
        let seconds = products(count)?;
        if seconds >= 0.5 * PER_SIZE_S {
            break seconds;
        }
        count *= 2;
    };
    let product_s = seconds / count as f64;
    Ok((2.0 * (size as f64).powi(3) / product_s, product_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rwkv_core::config::PILE_VOCAB;

    #[test]
    fn the_papers_table_is_a_third_of_it() {
        let forward = per_token(&RwkvConfig::rwkv4_169m(PILE_VOCAB), 1024) / 3.0;
        assert!((forward / 2.613e8 - 1.0).abs() < 5e-4, "{forward}");
    }

    #[test]
    fn odd_widths_count_every_matrix() {
        let config = RwkvConfig { dim_att: 48, dim_ffn: 100, ..RwkvConfig::new(65, 3, 32) };
        let block = 4 * 32 * 48 + 2 * 32 * 100 + 32 * 32;
        assert!((per_token(&config, 64) - (6 * (65 * 32 + 3 * block)) as f64).abs() < 1e-9);
    }

    #[test]
    fn attention_counts_the_tokens_before() {
        let config = RwkvConfig::gpt_neox(65, 3, 32, 4);
        // Positions 1 to 9 look at 1 to 9 tokens, 5 on average: scores and sums take 2·5·32 products a layer.
        let block = 4 * 32 * 32 + 8 * 32 * 32 + 2 * 5 * 32;
        assert!((per_token(&config, 9) - (6 * (65 * 32 + 3 * block)) as f64).abs() < 1e-9);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_peak_is_a_rate() {
        let peak = measured_peak::<burn::backend::Flex>(&Default::default()).expect("a CPU");
        assert!(peak.is_finite() && peak > 1e6, "{peak}");
    }
}
