//! Causal tracing by hooks: a batch of copies of one prompt, each with noise or a mended place of its own.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::model::{Capture, Rwkv};
use rwkv_core::ops::RwkvBackend;
use serde::Serialize;
use std::fmt::Display;
use std::ops::Range;

/// What a prediction used.
///
/// # Source
/// Causal tracing as in Meng et al. 2022 (arXiv 2202.05262), which the RWKV paper applies to RWKV.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Trace {
    /// The predicted token.
    pub(super) target_id: u32,
    /// Its probability after the prompt.
    pub(super) clean: f64,
    /// Its probability with noise on the embeddings of `corrupt`.
    pub(super) corrupted: f64,
    /// The tokens with noise.
    pub(super) corrupt: Range<usize>,
    /// How much probability noise on each single token takes.
    pub(super) token_effects: Vec<f64>,
    /// By layer and token: how much probability comes back when the clean residual stream is put back there.
    pub(super) restored: Vec<Vec<f64>>,
}

/// Traces the prediction of `target`, or of the most probable token, after `ids`.
pub(super) fn run<B: RwkvBackend>(
    model: &Rwkv<B>,
    ids: &[u32],
    target: Option<u32>,
    corrupt: Option<Range<usize>>,
    noise: f64,
    seed: u64,
) -> Trace {
    let (count, layers) = (ids.len(), model.blocks.len());
    let width = model.config().n_embd;
    let device = model.device();

    let names = (0..layers).map(|l| format!("blocks.{l}")).chain(["emb".to_owned()]);
    let mut streams = Capture::new(names);
    let (logits, _) = model.forward_hooked(batch(model, ids, 1), model.zero_state(1), &mut streams);
    let clean = probabilities(logits)[0].clone();
    let by_probability = |i: &usize, j: &usize| clean[*i].total_cmp(&clean[*j]);
    let target = target.map_or_else(|| (0..clean.len()).max_by(by_probability).unwrap_or(0), |id| id as usize);

    let embeddings: Vec<f64> = streams.get("emb").map_or_else(Vec::new, |x| x.clone().into_data().iter().collect());
    let mean = embeddings.iter().sum::<f64>() / embeddings.len() as f64;
    let deviation = (embeddings.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / embeddings.len() as f64).sqrt();
    let noise = noise_of(count * width, noise * deviation, seed);
    // Row `r` of the batch gets the noise where `noisy` says so.
    let added = |noisy: &dyn Fn(usize, usize) -> bool| -> Tensor<B, 3> {
        let at = |i: usize| {
            let (row, token) = (i / (count * width), i / width % count);
            if noisy(row, token) { noise[i % (count * width)] } else { 0.0 }
        };
        let values: Vec<f32> = (0..count * count * width).map(at).collect();
        Tensor::from_data(TensorData::new(values, [count, count, width]), &device)
    };
    let ids = batch(model, ids, count);
    let target_of = |logits| -> Vec<f64> { probabilities::<B>(logits).iter().map(|row| row[target]).collect() };

    let one_each = added(&|row, token| row == token);
    let mut disturb =
        |name: &dyn Display, x: Tensor<B, 3>| if name.to_string() == "emb" { x + one_each.clone() } else { x };
    let (logits, _) = model.forward_hooked(ids.clone(), model.zero_state(count), &mut disturb);
    let token_effects: Vec<f64> = target_of(logits).into_iter().map(|p| clean[target] - p).collect();

    let corrupt = corrupt.unwrap_or_else(|| {
        // The last token always matters, and its way is no news.
        let most = (0..(count - 1).max(1)).max_by(|&i, &j| token_effects[i].total_cmp(&token_effects[j])).unwrap_or(0);
        most..most + 1
    });
    let all = added(&|_, token| corrupt.contains(&token));
    // Row `t` takes the clean stream at token `t`.
    let diagonal: Vec<f32> = (0..count * count).map(|i| f32::from(u8::from(i / count == i % count))).collect();
    let here = Tensor::<B, 3>::from_data(TensorData::new(diagonal, [count, count, 1]), &device);
    let pass = |layer: Option<usize>| -> Vec<f64> {
        let mended = layer.map(|layer| format!("blocks.{layer}"));
        let mut hook = |name: &dyn Display, x: Tensor<B, 3>| {
            let name = name.to_string();
            if name == "emb" {
                return x + all.clone();
            }
            match streams.get(&name) {
                Some(clean) if Some(&name) == mended.as_ref() => {
                    let clean = clean.clone().cast(x.dtype());
                    let here = here.clone().cast(x.dtype());
                    x.clone() + (clean - x) * here
                }
                _ => x,
            }
        };
        target_of(model.forward_hooked(ids.clone(), model.zero_state(count), &mut hook).0)
    };
    let corrupted = pass(None)[0];
    let restored = (0..layers).map(|layer| pass(Some(layer)).into_iter().map(|p| p - corrupted).collect()).collect();
    Trace { target_id: target as u32, clean: clean[target], corrupted, corrupt, token_effects, restored }
}

/// `rows` copies of the tokens.
fn batch<B: RwkvBackend>(model: &Rwkv<B>, ids: &[u32], rows: usize) -> Tensor<B, 2, Int> {
    let row: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_data(TensorData::new(row.repeat(rows), [rows, ids.len()]), &model.device())
}

/// The next token's probabilities after the last token of every row.
fn probabilities<B: RwkvBackend>(logits: Tensor<B, 3>) -> Vec<Vec<f64>> {
    let [_, time, vocab] = logits.dims();
    let last = softmax(logits.narrow(1, time - 1, 1).squeeze_dim::<2>(1), 1);
    let flat: Vec<f64> = last.into_data().iter::<f64>().collect();
    flat.chunks(vocab).map(<[f64]>::to_vec).collect()
}

/// Uniform noise of this standard deviation.
fn noise_of(count: usize, deviation: f64, seed: u64) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let half_width = 3f64.sqrt() * deviation;
    (0..count).map(|_| (half_width * rng.random_range(-1.0..1.0)) as f32).collect()
}
