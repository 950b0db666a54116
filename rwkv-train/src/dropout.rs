//! Dropout of the residual stream, drawn from the sample and the place alone.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use chacha20::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rwkv_core::model::Hook;
use std::fmt;

/// Dropout as the official trainer places it: after the embedding, and on the whole residual stream after each sub-block.
///
/// What is dropped follows from the seed, the sample's number, the place in the model and the position, and from nothing
/// else. So it does not matter how samples are grouped into batches, on which worker they are, in how many chunks of time
/// they are read, or whether a block is computed twice.
///
/// # Source
/// Reference §4.2.
#[derive(Debug, Clone)]
pub struct Dropout {
    rate: f64,
    /// A seed for every row.
    rows: Vec<u64>,
    /// Inputs of the sample before the first one that is seen now.
    position: usize,
}

impl Dropout {
    /// Dropout of `rate` for the samples of these numbers, from input `position` on.
    #[must_use]
    pub fn new(rate: f64, seed: u64, samples: std::ops::Range<u64>, position: usize) -> Self {
        let row = |sample: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sample;
        Self { rate, rows: if rate > 0.0 { samples.map(row).collect() } else { Vec::new() }, position }
    }

    fn mask<B: Backend>(&self, stream: u64, [batch, time, width]: [usize; 3], device: &B::Device) -> Tensor<B, 3> {
        assert_eq!(batch, self.rows.len(), "dropout: one sample a row");
        let dropped = (self.rate * f64::from(u32::MAX)) as u32;
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let mut mask = Vec::with_capacity(batch * time * width);
        for row in &self.rows {
            let mut rng = ChaCha8Rng::seed_from_u64(*row);
            rng.set_stream(stream);
            rng.set_word_pos((self.position * width) as u128);
            mask.extend((0..time * width).map(|_| if rng.next_u32() < dropped { 0.0 } else { kept }));
        }
        Tensor::from_data(TensorData::new(mask, [batch, time, width]), (device, DType::F32))
    }
}

impl<B: Backend> Hook<B> for Dropout {
    fn at(&mut self, name: fmt::Arguments<'_>, value: Tensor<B, 3>) -> Tensor<B, 3> {
        if self.rate == 0.0 {
            return value;
        }
        let Some(stream) = place(&name.to_string()) else { return value };
        let mask = self.mask::<B>(stream, value.dims(), &value.device()).cast(value.dtype());
        value * mask
    }
}

/// The number of a place where dropout acts; nothing elsewhere.
fn place(name: &str) -> Option<u64> {
    if name == "emb" {
        return Some(0);
    }
    let (layer, local) = name.strip_prefix("blocks.").map(|rest| rest.split_once('.').unwrap_or((rest, "")))?;
    let layer: u64 = layer.parse().ok()?;
    match local {
        "att" => Some(2 * layer + 1),
        "" => Some(2 * layer + 2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_acts_on_the_residual_stream_only() {
        assert_eq!(["emb", "blocks.0.att", "blocks.0", "blocks.11.att"].map(place), [0, 1, 2, 23].map(Some));
        assert_eq!(["ln_out", "head", "blocks.0.att.key", "blocks.0.ln1"].map(place), [None; 4]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn what_is_dropped_follows_from_sample_place_and_position() {
        type B = burn::backend::Flex;
        let device = Default::default();
        let mask = |samples: std::ops::Range<u64>, position: usize, stream: u64, time: usize| {
            let rows = samples.end as usize - samples.start as usize;
            let dropout = Dropout::new(0.25, 7, samples, position);
            dropout.mask::<B>(stream, [rows, time, 5], &device).into_data().to_vec::<f32>().expect("f32")
        };
        let whole = mask(3..5, 0, 2, 40);
        assert_eq!(whole[200..], mask(4..5, 0, 2, 40));
        assert_eq!(whole[40..200], mask(3..4, 8, 2, 32));
        assert_ne!(whole, mask(3..5, 0, 3, 40));
        assert_ne!(whole, mask(5..7, 0, 2, 40));
        let kept = whole.iter().filter(|x| **x > 0.0).count();
        assert!((270..=330).contains(&kept), "{kept} of 400 kept");
        let mean = mask(0..50, 0, 0, 200).iter().sum::<f32>() / 50_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
