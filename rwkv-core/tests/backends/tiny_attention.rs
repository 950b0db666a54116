//! RWKV-4a's tiny attention against its formula; what it shares with all mixers is in `every_mixer.rs`.

use crate::every_mixer::stirred;
use crate::support::{assert_close, values};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rwkv_core::config::{LAYER_NORM_EPSILON, RwkvConfig};
use rwkv_core::model::{Mixers, TinyAttentionSettings};
use rwkv_core::ops::RwkvBackend;
use std::collections::HashMap;

const TIME: usize = 130;
const WIDTH: usize = 16;
const SIZE: usize = 5;

/// All parameters after `blocks.1.tiny.`; projections are `[in, out]`.
struct Parameters(HashMap<String, Vec<f64>>, HashMap<burn::module::ParamId, String>);

impl<B: Backend> ModuleVisitor<B> for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(name) = self.1[&param.id].strip_prefix("blocks.1.tiny.") {
            self.0.insert(name.to_owned(), values(param.val()));
        }
    }
}

/// More than two chunks, in one pass and in pieces that end elsewhere.
fn linear_tiny_attention_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    let mixers = Mixers { tiny_attention: Some(TinyAttentionSettings { size: SIZE, layer: 1 }), ..Mixers::default() };
    let model = stirred::<B>(&RwkvConfig { mixers, ..RwkvConfig::new(13, 2, WIDTH) }, device);
    let names = model.named_parameters().into_iter().map(|(name, id)| (id, name)).collect();
    let mut parameters = Parameters(HashMap::new(), names);
    model.visit(&mut parameters);
    let parameters = parameters.0;
    let tokens: Vec<i32> = (0..TIME as i32).map(|i| (i * i + 5 * i) % 13).collect();
    let tokens = Tensor::from_data(TensorData::new(tokens, [1, TIME]), device);

    // Few different lengths, because a GPU backend tunes its products for each.
    for pieces in [vec![TIME], vec![64, 1, 65]] {
        let mut seen = HashMap::<String, Vec<f64>>::new();
        let (mut state, mut start) = (model.zero_state(1), 0);
        for length in pieces {
            let mut keep = |name: &dyn std::fmt::Display, x: Tensor<B, 3>| {
                seen.entry(name.to_string()).or_default().extend(values::<B, 3>(x.clone()));
                x
            };
            state = model.forward_hooked(tokens.clone().narrow(1, start, length), state, &mut keep).1;
            start += length;
        }
        let (emb, got) = (&seen["emb"], &seen["blocks.1.tiny"]);
        let stream: Vec<f64> = seen["blocks.1"].iter().zip(got).map(|(after, tiny)| after - tiny).collect();
        let normal = stream.chunks(WIDTH).map(|x| {
            let mean = x.iter().sum::<f64>() / WIDTH as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let scaled = |c: usize| (x[c] - mean) / (variance + LAYER_NORM_EPSILON).sqrt();
            (0..WIDTH).map(|c| scaled(c) * parameters["ln.weight"][c] + parameters["ln.bias"][c]).collect::<Vec<_>>()
        });
        let normal: Vec<Vec<f64>> = normal.collect();
        let times = |x: &[f64], matrix: &str, out: usize| -> Vec<f64> {
            let weights = &parameters[matrix];
            (0..out).map(|o| x.iter().enumerate().map(|(i, x)| x * weights[i * out + o]).sum()).collect()
        };
        let of_all = |matrix: &str| normal.iter().map(|x| times(x, matrix, SIZE)).collect::<Vec<_>>();
        let (q, k) = (of_all("q.weight"), of_all("k.weight"));
        let v: Vec<Vec<f64>> = emb.chunks(WIDTH).map(|x| times(x, "v.weight", WIDTH)).collect();
        let want = (0..TIME).flat_map(|t| {
            let score = |s: usize| q[t].iter().zip(&k[s]).map(|(q, k)| q * k).sum::<f64>() / (SIZE as f64).sqrt();
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let v = &v;
            (0..WIDTH)
                .map(move |c| scores.iter().zip(v).map(|(score, v)| score * v[c]).sum::<f64>())
                .collect::<Vec<_>>()
        });
        assert_close("linear tiny attention", got, &want.collect::<Vec<_>>(), 3e-5);
    }
}

on_every_backend!(linear_tiny_attention_is_its_formula);
