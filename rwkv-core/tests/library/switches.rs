//! Every switch of RWKV-4 changes something, and none does at its default.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::config::RwkvConfig;
use rwkv_core::loss::training_loss;
use rwkv_core::model::{Capture, Mixers, Rwkv};
use std::collections::BTreeMap;

/// Adds noise to every parameter, because many start as zeros.
struct Stir(StdRng);

impl<B: Backend> ModuleMapper<B> for Stir {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let noise: Vec<f32> = (0..shape.num_elements()).map(|_| self.0.random_range(-0.5f32..0.5)).collect();
            let asks = tensor.is_require_grad();
            let noise = Tensor::from_data(TensorData::new(noise, shape), &tensor.device());
            (tensor.set_require_grad(false) + noise).set_require_grad(asks)
        })
    }
}

fn config(mixers: &str) -> RwkvConfig {
    let mixers: Mixers = serde_json::from_str(mixers).expect("a choice of mixers");
    RwkvConfig { dim_att: 24, dim_ffn: 20, mixers, ..RwkvConfig::new(13, 3, 16) }
}

/// A model with noise of its own on every parameter that also plain RWKV-4 has, and the same there.
fn stirred<B: Backend>(config: &RwkvConfig) -> Rwkv<B> {
    Rwkv::new(config, 1, &B::Device::default()).map(&mut Stir(StdRng::seed_from_u64(2)))
}

fn tokens<B: Backend>() -> Tensor<B, 2, Int> {
    let ids: Vec<i32> = (0..22).map(|i| (i * i + 3 * i) % 13).collect();
    Tensor::from_data(TensorData::new(ids, [2, 11]), &B::Device::default())
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().expect("numbers")
}

/// All intermediates of a pass.
fn trace(config: &RwkvConfig) -> BTreeMap<String, Vec<f32>> {
    let model = stirred::<Flex>(config);
    let mut found = BTreeMap::new();
    let mut keep = |name: &dyn std::fmt::Display, x: Tensor<Flex, 3>| {
        found.insert(name.to_string(), values(x.clone()));
        x
    };
    model.forward_hooked(tokens(), model.zero_state(2), &mut keep);
    found
}

/// Logits, state and every gradient.
#[test]
fn defaults_are_rwkv4_bit_for_bit() {
    let run = |config: &RwkvConfig| {
        let model = stirred::<Autodiff<Flex>>(config);
        let (logits, state) = model.forward(tokens(), model.zero_state(2));
        let numbers = [values(logits.clone()), values(state.layers[2].memory.clone())].concat();
        let gradients = training_loss(logits, tokens()).backward();
        let attention = |l: usize| {
            let emb = model.emb.weight().expect("a parameter").val().grad(&gradients).expect("it learns");
            (l, values(emb))
        };
        (model.named_parameters(), numbers, attention(0))
    };
    let plain = config("{}");
    let ablated = config(r#"{"sequence": "rwkv-4-ablated", "channel": "rwkv-4-ablated"}"#);
    assert_ne!(plain.mixers, ablated.mixers);
    assert_eq!(plain.num_params(), ablated.num_params());
    let (plain, ablated) = (run(&plain), run(&ablated));
    let sorted = |(names, ..): &(Vec<_>, Vec<f32>, (usize, Vec<f32>))| {
        let mut names = names.clone();
        names.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
        names
    };
    assert_eq!(sorted(&plain), sorted(&ablated));
    assert_eq!((plain.1, plain.2), (ablated.1, ablated.2));
}

/// Each switch, the parameters that it adds or takes away in a block, and the first intermediate that it changes.
#[test]
fn every_switch_changes_the_computation() {
    let (c, a, f) = (16i64, 24i64, 20i64);
    let att = |switch: &str| format!(r#"{{"sequence": {{"rwkv-4-ablated": {{{switch}}}}}}}"#);
    let ffn = |switch: &str| format!(r#"{{"channel": {{"rwkv-4-ablated": {{{switch}}}}}}}"#);
    let cases: Vec<(String, i64, &str)> = vec![
        (att(r#""token_shift": "none""#), -3 * c, "blocks.0.att.key"),
        (att(r#""token_shift": "half""#), -3 * c, "blocks.0.att.key"),
        (att(r#""token_shift": {"per-head": 4}"#), -3 * c + 12, "blocks.0.att.key"),
        (att(r#""decay": "fixed""#), 0, ""),
        (att(r#""decay": "none""#), -a, "blocks.0.att.wkv"),
        (att(r#""decay": "shared""#), 1 - a, "blocks.0.att.wkv"),
        (att(r#""decay": "schedule""#), -a, "blocks.0.att.wkv"),
        (att(r#""bonus": "zero""#), -a, "blocks.0.att.wkv"),
        (att(r#""receptance": "none""#), -a * c - c, "blocks.0.att.output"),
        (att(r#""receptance": "tanh""#), 0, "blocks.0.att.output"),
        (att(r#""key": "linear""#), 0, "blocks.0.att.wkv"),
        (att(r#""tiny_attention": 1"#), 3 * c + 4 * c, "blocks.0.att"),
        (ffn(r#""token_shift": "none""#), -2 * c, "blocks.0.ffn.key"),
        (ffn(r#""token_shift": "half""#), -2 * c, "blocks.0.ffn.key"),
        (ffn(r#""token_shift": {"per-head": 8}"#), -2 * c + 16, "blocks.0.ffn.key"),
        (ffn(r#""activation": "relu""#), 0, "blocks.0.ffn.value"),
        (ffn(r#""activation": "gelu""#), 0, "blocks.0.ffn.value"),
        (ffn(r#""activation": "swiglu""#), f * c, "blocks.0.ffn.value"),
        (ffn(r#""gate": false"#), -c * c - c, "blocks.0.ffn.output"),
    ];
    let plain = config("{}");
    let reference = trace(&plain);
    for (switch, params, changed) in cases {
        let config = config(&switch);
        config.validate().expect("a model");
        assert_eq!(config.num_params() as i64 - plain.num_params() as i64, 3 * params, "{switch}");
        let model = Rwkv::<Flex>::new(&config, 0, &Default::default());
        assert_eq!((model.num_params_lazy(), model.config().mixers), (config.num_params(), config.mixers), "{switch}");
        let trace = trace(&config);
        if changed.is_empty() {
            assert_eq!(trace, reference, "{switch}: nothing but the gradient changes");
        } else {
            assert_ne!(trace[changed], reference[changed], "{switch}");
        }
    }
}

/// The decays that stay: they have no gradient, and everything else has the one that it had.
#[test]
fn a_fixed_decay_does_not_learn() {
    let gradients = |config: &RwkvConfig| {
        let model = stirred::<Autodiff<Flex>>(config);
        let gradients = training_loss(model.forward(tokens(), model.zero_state(2)).0, tokens()).backward();
        struct All<'a>(&'a burn::backend::autodiff::grads::Gradients, Vec<Option<Vec<f32>>>);
        impl burn::module::ModuleVisitor<Autodiff<Flex>> for All<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
                self.1.push(param.val().grad(self.0).map(values));
            }
        }
        let mut all = All(&gradients, Vec::new());
        model.visit(&mut all);
        let names = model.named_parameters().into_iter().map(|(name, _)| name);
        names.zip(all.1).collect::<BTreeMap<_, _>>()
    };
    let plain = gradients(&config("{}"));
    let fixed = gradients(&config(r#"{"sequence": {"rwkv-4-ablated": {"decay": "fixed"}}}"#));
    for (name, gradient) in &plain {
        assert!(gradient.is_some(), "{name}");
        let expected = if name.ends_with("time_decay") { &None } else { gradient };
        assert_eq!(&fixed[name], expected, "{name}");
    }
}

/// What is not in a block: the layer norm after the embedding, and the head.
#[test]
fn shell_and_head_have_switches() {
    let (plain, c, v) = (config("{}"), 16, 13);
    let without = config(r#"{"shell": "rwkv-4-without-ln0"}"#);
    assert_eq!(plain.num_params() - without.num_params(), 2 * c);
    assert!(!trace(&without).contains_key("blocks.0.ln0"));
    let tied = config(r#"{"tied_head": true}"#);
    assert_eq!(plain.num_params() - tied.num_params(), v * c);
    let model = stirred::<Flex>(&tied);
    let mut capture = Capture::new(["ln_out"]);
    let (logits, _) = model.forward_hooked(tokens(), model.zero_state(2), &mut capture);
    let ln_out = capture.get("ln_out").expect("captured").clone();
    let table = model.emb.weight().expect("a parameter").val();
    let want = ln_out.reshape([22, c]).matmul(table.transpose());
    assert_eq!(values(logits), values(want));
}

/// RWKV-4a's tiny attention reads the stream after its block and the embeddings before `ln0`.
#[test]
fn a_tiny_attention_changes_the_computation_from_its_block_on() {
    let (c, d) = (16, 5);
    let square = |mixers: &str| RwkvConfig { dim_att: c, ..config(mixers) };
    let (plain, tiny) = (square("{}"), square(r#"{"tiny_attention": {"size": 5, "layer": 1}}"#));
    tiny.validate().expect("a model");
    assert_eq!(tiny.num_params() - plain.num_params(), 2 * c + 2 * d * c + c * c);
    let rows = |layer: usize| stirred::<Flex>(&tiny).zero_state(1).layers[layer].memory.dims()[1];
    assert_eq!([0, 1, 2].map(rows), [3, 3 + d, 3]);
    let (reference, trace) = (trace(&plain), trace(&tiny));
    // The parameters before it are drawn alike: they come first.
    assert_eq!(trace["blocks.0"], reference["blocks.0"]);
    let sum = |x: &Vec<f32>| x.iter().map(|x| x.abs()).sum::<f32>();
    assert!(sum(&trace["blocks.1.tiny"]) > 0.0);
    assert_ne!(trace["blocks.1"], reference["blocks.1"]);

    let refused = |config: RwkvConfig| config.validate().expect_err("refused").to_string();
    let problem = refused(config(r#"{"tiny_attention": {"size": 5, "layer": 1}}"#));
    assert!(problem.contains("mixers.tiny_attention") && problem.contains("dim_att = n_embd"), "{problem}");
    let problem = refused(square(r#"{"tiny_attention": {"size": 5, "layer": 3}}"#));
    assert!(problem.contains("tiny_attention.layer") && problem.contains("below n_layer = 3"), "{problem}");
    let problem = refused(square(r#"{"tiny_attention": {"size": 0, "layer": 1}}"#));
    assert!(problem.contains("tiny_attention.size"), "{problem}");
    let attention = r#"{"sequence": {"attention": {"n_head": 4}}, "tiny_attention": {"size": 5, "layer": 1}}"#;
    assert!(refused(square(attention)).contains("fixed size"));
}

/// Every number in the initialisation moves the parameters that it is about, and no others.
#[test]
fn every_init_ratio_moves_its_parameters() {
    let start = |init: &str| {
        let init = serde_json::from_str(init).expect("ratios");
        let config = RwkvConfig { init, ..config("{}") };
        config.validate().expect("a model");
        let model = Rwkv::<Flex>::new(&config, 7, &Default::default());
        struct All(Vec<Vec<f32>>);
        impl burn::module::ModuleVisitor<Flex> for All {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
                self.0.push(values(param.val()));
            }
        }
        let mut all = All(Vec::new());
        model.visit(&mut all);
        model.named_parameters().into_iter().map(|(name, _)| name).zip(all.0).collect::<BTreeMap<_, _>>()
    };
    let plain = start("{}");
    for (ratio, parts) in [
        (r#"{"emb_std": 0.02}"#, &["emb.weight"][..]),
        (
            r#"{"zero_gain": 0.5}"#,
            &[
                "att.key.weight",
                "att.receptance.weight",
                "att.output.weight",
                "ffn.value.weight",
                "ffn.receptance.weight",
            ],
        ),
        (r#"{"value_gain": 2}"#, &["att.value.weight"]),
        (r#"{"ffn_key_gain": 2}"#, &["ffn.key.weight"]),
        (r#"{"head_gain": 2}"#, &["head.weight"]),
        (r#"{"decay_first": -4}"#, &["time_decay"]),
        (r#"{"decay_range": 4}"#, &["time_decay"]),
        (r#"{"decay_power": 1}"#, &["time_decay"]),
        (r#"{"decay_power_by_layer": 0}"#, &["time_decay"]),
        (r#"{"first": 1}"#, &["time_first"]),
        (r#"{"first_zigzag": 0}"#, &["time_first"]),
        (r#"{"mix_power": 0}"#, &["time_mix_k", "time_mix_v", "time_mix_r"]),
        (r#"{"mix_value_lift": 0}"#, &["att.time_mix_v"]),
        (r#"{"mix_receptance": 1}"#, &["att.time_mix_r"]),
    ] {
        let changed = start(ratio);
        let moved: Vec<&String> = changed.keys().filter(|name| changed[*name] != plain[*name]).collect();
        assert!(moved.iter().all(|name| parts.iter().any(|part| name.ends_with(part))), "{ratio} moves {moved:?}");
        assert!(parts.iter().all(|part| moved.iter().any(|name| name.ends_with(part))), "{ratio} moves {moved:?}");
    }
    let wrong = RwkvConfig { init: serde_json::from_str(r#"{"first": 0}"#).expect("ratios"), ..config("{}") };
    assert!(wrong.validate().expect_err("no logarithm").to_string().contains("init.first"));
}
