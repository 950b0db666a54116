//! Loss, gradients and ten optimizer steps against PyTorch in f64 (`rwkv-core/tests/fixtures/make_fixtures.py`).

use crate::fixture::Fixture;
use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::loss::{token_nll, training_loss, value};
use rwkv_core::model::Rwkv;
use rwkv_train::config::Stage;
use rwkv_train::optim::{Adam, AdamConfig, Groups, Update, global_norm};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type B = Autodiff<Flex>;

fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rwkv-core/tests/fixtures").join(format!("{name}.safetensors"))
}

fn expected() -> Fixture {
    Fixture::read(&fixture_path("training_expected"))
}

fn model() -> Rwkv<B> {
    checkpoint::load(&fixture_path("model"), &Default::default()).expect("loads")
}

fn ids(name: &str) -> Tensor<B, 2, Int> {
    let ids: Vec<i32> = expected().values(name).into_iter().map(|x| x as i32).collect();
    Tensor::from_data(TensorData::new(ids, [2, 7]), &Default::default())
}

/// Gradients by parameter id, in the official layout.
struct Collect<'a> {
    grads: &'a GradientsParams,
    found: HashMap<u64, Vec<f64>>,
}

impl ModuleVisitor<B> for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let grad = self.grads.get::<Flex, D>(param.id).expect("every parameter has a gradient");
        // The embedding keeps its layout; other matrices are transposed in Burn.
        self.found.insert(param.id.val(), grad.into_data().iter::<f64>().collect());
    }
}

fn transposed(values: &[f64], rows: usize) -> Vec<f64> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

#[test]
fn loss_and_every_gradient_match_pytorch() {
    let (expected, model) = (expected(), model());
    let (logits, _) = model.forward(ids("inputs"), model.zero_state(2));
    let plain = value(token_nll(logits.clone(), ids("targets")).mean());
    let loss = training_loss(logits, ids("targets"));
    let want = expected.values("loss")[0];
    println!("loss {}, expected {want}", value(loss.clone()));
    assert!((value(loss.clone()) - want).abs() < 1e-5, "L2Wrap must not show in the loss");
    assert!((plain - want).abs() < 1e-5);

    let grads = GradientsParams::from_grads(loss.backward(), &model);
    let mut collect = Collect { grads: &grads, found: HashMap::new() };
    model.visit(&mut collect);
    for (name, id) in model.named_parameters() {
        let want = expected.values(&format!("grad.{name}"));
        let mut got = collect.found.remove(&id.val()).expect("visited");
        let shape = expected.shape(&format!("grad.{name}"));
        if shape.len() == 2 && name != "emb.weight" {
            got = transposed(&got, shape[1]);
        }
        let scale = want.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        assert_eq!(got.len(), want.len(), "{name}");
        assert!(got.iter().all(|x| x.is_finite()), "{name}: {got:?}");
        let error = got.iter().zip(&want).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / scale;
        println!("{name}: largest error {error:.1e} of {scale:.2e}");
        // Leaving L2Wrap out would be 5e-4 here.
        assert!(error < 2e-5, "{name}: {error:.1e}");
    }
}

#[test]
fn ten_steps_of_adam_match_pytorch() {
    let (expected, device) = (expected(), Default::default());
    let mut model = model();
    let groups = Groups { layerwise_lr: true, stage: Stage::Main };
    let config = AdamConfig { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, groups };
    let mut adam = Adam::new(config, model.named_parameters());
    for (step, want) in expected.values("losses").into_iter().enumerate() {
        let (logits, _) = model.forward(ids("inputs"), model.zero_state(2));
        let loss = training_loss(logits, ids("targets"));
        let got = value(loss.clone());
        println!("step {step}: loss {got:.7}, expected {want:.7}");
        // Other learning-rate groups would be off by 3e-3, no clipping by 5e-2, no L2Wrap by 1e-4.
        assert!((got - want).abs() < 2e-5, "step {step}: {got}, expected {want}");
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let norm = global_norm(&model, &grads, &device);
        assert!(value(norm.clone()) > 1.0, "the clip acts on this batch");
        model = adam.step(Update { lr: 1e-3, weight_decay: 0.0, max_norm: 1.0 }, model, grads, norm);
    }
}

/// A batch's gradients and their norm.
fn gradients(model: &Rwkv<B>) -> (GradientsParams, f64) {
    let (logits, _) = model.forward(ids("inputs"), model.zero_state(2));
    let grads = GradientsParams::from_grads(training_loss(logits, ids("targets")).backward(), model);
    let norm = value(global_norm(model, &grads, &Default::default()));
    (grads, norm)
}

#[test]
fn the_norm_is_that_of_all_gradients() {
    let model = model();
    let (grads, norm) = gradients(&model);
    let mut collect = Collect { grads: &grads, found: HashMap::new() };
    model.visit(&mut collect);
    let by_hand = length(collect.found.values());
    assert!((norm / by_hand - 1.0).abs() < 1e-6, "{norm}, by hand {by_hand}");
}

#[test]
fn gradients_below_the_limit_are_left_alone_and_others_shortened_to_it() {
    for limit in [1e6, 0.5] {
        let model = model();
        let (grads, norm) = gradients(&model);
        let mut collect = Collect { grads: &grads, found: HashMap::new() };
        model.visit(&mut collect);
        let names = model.named_parameters();
        let before: HashMap<String, Vec<f64>> =
            names.iter().map(|(name, id)| (name.clone(), collect.found[&id.val()].clone())).collect();
        let after = as_adam_takes_them(model, grads, limit);
        assert_eq!(before.len(), after.len());
        if norm < limit {
            assert_eq!(before, after);
        } else {
            let after = length(after.values());
            assert!((after - limit).abs() < 1e-5, "{after}");
        }
    }
}

/// The gradients that an update with this limit works with, by their parameters' names: without momentum, the first moments.
fn as_adam_takes_them(model: Rwkv<B>, grads: GradientsParams, max_norm: f64) -> HashMap<String, Vec<f64>> {
    let groups = Groups { layerwise_lr: true, stage: Stage::Main };
    let config = AdamConfig { beta_1: 0.0, beta_2: 0.99, epsilon: 1e-8, groups };
    let mut adam = Adam::new(config, model.named_parameters());
    let norm = global_norm(&model, &grads, &Default::default());
    let _ = adam.step(Update { lr: 1e-3, weight_decay: 0.0, max_norm }, model, grads, norm);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("optimizer.safetensors");
    adam.save(&path).expect("writes");
    let bytes = std::fs::read(&path).expect("reads");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let number = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes")));
    let moments = file.iter().filter_map(|(name, moment)| Some((name.strip_suffix(".exp_avg")?.to_owned(), moment)));
    moments.map(|(name, moment)| (name, moment.data().chunks_exact(4).map(number).collect())).collect()
}

/// The norm of all of these together.
fn length<'a>(tensors: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    tensors.flatten().map(|x| x * x).sum::<f64>().sqrt()
}
