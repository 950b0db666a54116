//! Every way to the gradients gives the gradients of one graph: chunks of the loss, blocks computed twice, chunks of time.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::loss::value;
use rwkv_core::model::{InitRatios, Mixers, Rwkv, TinyAttentionSettings};
use rwkv_train::backprop::Backprop;
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Batch, Sample};
use rwkv_train::trainee::Trainee;
use std::collections::BTreeMap;
use std::path::Path;

type B = Autodiff<Flex>;
type Gradients = BTreeMap<String, Vec<f64>>;

/// The fixture's model: live weights in every layer, three layers, all sizes different.
fn model() -> Rwkv<B> {
    fixture("model")
}

fn fixture(name: &str) -> Rwkv<B> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../rwkv-core/tests/fixtures/{name}.safetensors"));
    checkpoint::load(&path, &Default::default()).expect("loads")
}

/// Two rows of 13 tokens, with weights and restarts if asked for.
fn batch(plain: bool) -> Batch {
    let row = |seed: u32| (0..14).map(|i| (i * 7 + seed * i * i + seed) % 11).collect::<Vec<u32>>();
    let mut samples = [Sample::plain(row(1)), Sample::plain(row(3))];
    if !plain {
        samples[0].resets = vec![4, 5, 9];
        samples[1].resets = vec![9];
        samples[1].weights = Some((0..13).map(|i| [1.0, 0.0, 0.5][i % 3]).collect());
    }
    Batch::new(samples.into_iter(), 13)
}

fn config(train: &str, tune: &str) -> RunConfig {
    RunConfig::from_toml(&format!("[train]\n{train}\n[tune]\n{tune}")).expect("valid")
}

fn gradients(config: &RunConfig, batch: &Batch) -> (f64, Gradients) {
    gradients_of(model(), config, batch)
}

fn gradients_of(model: Rwkv<B>, config: &RunConfig, batch: &Batch) -> (f64, Gradients) {
    let trainee = Trainee::new(model, config).expect("fits");
    let (loss, grads) = Backprop::new(config).gradients(&trainee, batch, 5..7, 1.0 / batch.weight());
    let mut collect = Collect { grads: &grads, found: BTreeMap::new() };
    trainee.visit(&mut collect);
    let names = trainee.named_parameters().into_iter();
    let found = names.filter_map(|(name, id)| Some((name, collect.found.remove(&id.val())?))).collect();
    (value(loss), found)
}

struct Collect<'a> {
    grads: &'a GradientsParams,
    found: BTreeMap<u64, Vec<f64>>,
}

impl ModuleVisitor<B> for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<Flex, D>(param.id) {
            self.found.insert(param.id.val(), grad.into_data().iter::<f64>().collect());
        }
    }
}

/// The largest difference of two gradients, relative to the largest entry of that parameter's.
fn difference(got: &Gradients, want: &Gradients) -> f64 {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    let of = |(name, want): (&String, &Vec<f64>)| {
        let scale = want.iter().fold(1e-12f64, |max, x| max.max(x.abs()));
        got[name].iter().zip(want).map(|(x, y)| (x - y).abs() / scale).fold(0.0, f64::max)
    };
    want.iter().map(of).fold(0.0, f64::max)
}

fn assert_same(what: &str, train: &str, tune: &str, batch: &Batch, against: &str) -> f64 {
    let (loss, got) = gradients(&config(train, tune), batch);
    let (want_loss, want) = gradients(&config(against, tune), batch);
    let error = difference(&got, &want);
    println!("{what}: loss {loss}, largest difference of a gradient {error:.1e}");
    assert!((loss - want_loss).abs() < 1e-6 && error < 2e-5, "{what}: {error:.1e}");
    error
}

const PLAIN: &str = "loss_chunk = 0";

#[test]
fn every_way_to_the_gradients_is_the_same() {
    for (kind, batch) in [("plain", batch(true)), ("weights and restarts", batch(false))] {
        for way in [
            "loss_chunk = 1",
            "loss_chunk = 5",
            "checkpoint_blocks = true",
            "bptt_chunk = 4",
            "bptt_chunk = 1",
            "bptt_chunk = 5\ncheckpoint_blocks = true\nloss_chunk = 3",
            "bptt_chunk = 100",
        ] {
            assert_same(&format!("{kind}, {way}"), way, "", &batch, PLAIN);
        }
    }
}

fn assert_every_way_is_the_same(model: &dyn Fn() -> Rwkv<B>) {
    for (kind, batch) in [("plain", batch(true)), ("weights and restarts", batch(false))] {
        let of = |train: &str| gradients_of(model(), &config(train, ""), &batch);
        let (want_loss, want) = of(PLAIN);
        for way in
            ["checkpoint_blocks = true", "bptt_chunk = 4", "bptt_chunk = 1", "bptt_chunk = 5\ncheckpoint_blocks = true"]
        {
            let (loss, got) = of(way);
            let error = difference(&got, &want);
            println!("{kind}, {way}: loss {loss}, largest difference of a gradient {error:.1e}");
            assert!((loss - want_loss).abs() < 1e-6 && error < 2e-5, "{kind}, {way}: {error:.1e}");
        }
    }
}

/// The embeddings get a gradient from two blocks, and the state has rows of two kinds.
#[test]
fn a_tiny_attentions_gradients_are_the_same_in_every_way() {
    let tiny_attention = Some(TinyAttentionSettings { size: 5, layer: 1 });
    let mixers = Mixers { tiny_attention, ..Mixers::default() };
    let init = InitRatios { zero_gain: 0.5, ..InitRatios::default() };
    let config = RwkvConfig { mixers, init, emb_init_scale: 1.0, ..RwkvConfig::new(11, 3, 16) };
    assert_every_way_is_the_same(&|| Rwkv::new(&config, 1, &Default::default()));
}

/// Chunks of time hand on a cache of keys and values that grows, and its gradient comes back through all of them.
#[test]
fn a_transformers_gradients_are_the_same_in_every_way() {
    assert_every_way_is_the_same(&|| fixture("gpt_neox"));
}

#[test]
fn a_transformer_learns_by_adapters_and_not_by_a_state() {
    let batch = batch(true);
    let (_, got) = gradients_of(fixture("gpt_neox"), &config(PLAIN, "method = \"lora\"\nlora_rank = 2"), &batch);
    assert!(
        got.contains_key("blocks.2.att.key.lora_b") && got.contains_key("blocks.0.ffn.value.lora_a"),
        "{:?}",
        got.keys()
    );
    let said =
        Trainee::new(fixture("gpt_neox"), &config(PLAIN, "method = \"state\"")).expect_err("refused").to_string();
    assert!(said.contains("method") && said.contains("lora"), "{said}");
}

#[test]
fn dropout_is_the_same_in_every_way_and_not_without() {
    let batch = batch(true);
    let dropout = "dropout = 0.3\nloss_chunk = 0";
    for way in ["checkpoint_blocks = true", "bptt_chunk = 4", "bptt_chunk = 3\ncheckpoint_blocks = true"] {
        assert_same(way, &format!("dropout = 0.3\n{way}"), "", &batch, dropout);
    }
    let (without, with) = (gradients(&config(PLAIN, ""), &batch).0, gradients(&config(dropout, ""), &batch).0);
    assert!((without - with).abs() > 1e-3, "{without} {with}");
    let other = gradients(&config("dropout = 0.3\nseed = 1", ""), &batch).0;
    assert!((other - with).abs() > 1e-3, "another seed drops other numbers");
}

#[test]
fn states_and_adapters_get_their_gradients_in_every_way() {
    for (tune, batch) in [
        ("method = \"state\"", batch(true)),
        ("method = \"state\"", batch(false)),
        ("method = \"lora\"\nlora_rank = 2", batch(false)),
    ] {
        let (_, want) = gradients(&config(PLAIN, tune), &batch);
        let prefix = if tune.contains("state") { "initial_state." } else { "blocks." };
        assert!(want.keys().all(|name| name.starts_with(prefix)), "{:?}", want.keys());
        assert!(want.values().flatten().any(|x| *x != 0.0));
        for way in ["checkpoint_blocks = true", "bptt_chunk = 4", "bptt_chunk = 3\ncheckpoint_blocks = true"] {
            assert_same(&format!("{tune}, {way}"), way, tune, &batch, PLAIN);
        }
    }
}

#[test]
fn truncation_cuts_the_gradient_and_not_the_state() {
    let batch = batch(true);
    let (exact_loss, exact) = gradients(&config("bptt_chunk = 4", ""), &batch);
    let (loss, truncated) = gradients(&config("bptt_chunk = 4\nbptt = \"truncated\"", ""), &batch);
    assert!((loss - exact_loss).abs() < 1e-6, "the state is carried");
    assert!(difference(&truncated, &exact) > 1e-3, "the gradient is not");
}

#[test]
fn bf16_passes_are_near_and_leave_the_master_weights_alone() {
    let batch = batch(true);
    let (want_loss, want) = gradients(&config(PLAIN, ""), &batch);
    for way in ["", "checkpoint_blocks = true", "bptt_chunk = 4"] {
        let (loss, got) = gradients(&config(&format!("precision = \"bf16\"\n{way}"), ""), &batch);
        let error = difference(&got, &want);
        println!("bf16 {way}: loss {loss}, f32 {want_loss}, largest difference of a gradient {error:.1e}");
        assert!((loss - want_loss).abs() < 0.05 && loss != want_loss);
        assert!(error < 0.3 && error > 1e-4, "{error}");
    }
}

#[test]
fn l2_wrap_is_in_the_gradient_and_not_in_the_loss() {
    let batch = batch(true);
    let (loss, with) = gradients(&config("l2_wrap = 1e-2", ""), &batch);
    let (without_loss, without) = gradients(&config("l2_wrap = 0.0", ""), &batch);
    assert_eq!(loss, without_loss);
    assert!(difference(&with, &without) > 1e-4);
}
