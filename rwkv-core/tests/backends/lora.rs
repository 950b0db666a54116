//! LoRA adapters on every backend: what they compute, their gradients, merging, freezing and files.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, values};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use rwkv_core::checkpoint::{self, Checkpoint};
use rwkv_core::config::RwkvConfig;
use rwkv_core::loss::training_loss;
use rwkv_core::model::{Lora, LoraConfig, LoraTarget, NoHook, Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const TOKENS: [i64; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn config() -> LoraConfig {
    LoraConfig { rank: 3, alpha: 4.5, targets: LoraTarget::ALL.to_vec() }
}

fn base<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("model"), device).expect("the fixture loads")
}

/// Gives every `lora_b`, which starts at zero, some numbers.
struct Stir {
    path: Vec<String>,
    count: usize,
}

impl<B: Backend> ModuleMapper<B> for Stir {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.path.last().map(String::as_str) != Some("lora_b") {
            return param;
        }
        let shape = param.dims();
        let len: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..len).map(|i| 0.2 * ((i + self.count) as f32 * 0.7).sin()).collect();
        self.count += len;
        let device = param.device();
        param.map(|old| {
            let new = Tensor::from_data(TensorData::new(numbers, shape), (&device, DType::F32));
            new.set_require_grad(old.is_require_grad())
        })
    }
}

/// The fixture with adapters that do something.
fn adapted<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    base::<B>(device).add_lora(&config(), 7).expect("a plain model").map(&mut Stir { path: vec![], count: 0 })
}

/// Logits of both modes and of the last position.
fn logits<B: RwkvBackend>(model: &Rwkv<B>, device: &B::Device) -> [Vec<f64>; 3] {
    let tokens = Tensor::<B, 2, Int>::from_data(TensorData::new(TOKENS.to_vec(), [1, TOKENS.len()]), device);
    let parallel = values(model.forward(tokens.clone(), model.zero_state(1)).0);
    let last = values(model.forward_last(tokens, model.zero_state(1)).0);
    let mut state = model.zero_state(1);
    let mut rows = Vec::new();
    for token in TOKENS {
        let (row, next) = model.step(Tensor::from_data([token], device), state);
        rows.extend(values(row));
        state = next;
    }
    [parallel, last, rows]
}

/// All parameters by their official names, to the last bit.
fn parameters<B: Backend>(model: &Rwkv<B>) -> BTreeMap<String, Vec<u32>> {
    struct Read(Vec<Vec<u32>>);
    impl<B: Backend> ModuleVisitor<B> for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.push(param.val().into_data().iter::<f32>().map(f32::to_bits).collect());
        }
    }
    let mut read = Read(vec![]);
    model.visit(&mut read);
    model.named_parameters().into_iter().map(|(name, _)| name).zip(read.0).collect()
}

fn new_adapters_change_nothing<B: RwkvBackend>(device: &B::Device) {
    let plain = logits(&base::<B>(device), device);
    let model = base::<B>(device).add_lora(&config(), 7).expect("a plain model");
    let [forward, forward_last, step] = logits(&model, device);
    assert_eq!([&forward, &forward_last], [&plain[0], &plain[1]]);
    if B::IN_MAIN_MEMORY {
        assert_eq!(step, plain[2]);
    } else {
        // There the step of a model without adapters is one operation, which adds up in another order.
        assert_close("step", &step, &plain[2], 1e-5);
    }
    assert_ne!(logits(&adapted::<B>(device), device), plain);
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".lora_a")).count(), 7 * 3 + 1);
    for name in ["blocks.0.att.key.lora_a", "blocks.2.ffn.value.lora_b", "head.lora_b"] {
        assert!(names.iter().any(|other| other == name), "{name}");
    }
    // Drawn by seed and name, within ±1/√in.
    let again = parameters(&base::<B>(device).add_lora(&config(), 7).expect("a plain model"));
    assert_eq!(parameters(&model), again);
    let other = parameters(&base::<B>(device).add_lora(&config(), 8).expect("a plain model"));
    for (name, bits) in again.iter().filter(|(name, _)| name.ends_with(".lora_a")) {
        assert_ne!(other[name], *bits, "{name}");
        let largest = bits.iter().map(|&bits| f32::from_bits(bits).abs()).fold(0.0, f32::max);
        let bound = (3.0 / bits.len() as f32).sqrt();
        assert!(largest < bound && largest > 0.8 * bound, "{name}: {largest} within {bound}");
    }
}

fn merged_is_unmerged<B: RwkvBackend>(device: &B::Device) {
    let (plain, model) = (logits(&base::<B>(device), device), adapted::<B>(device));
    let unmerged = logits(&model, device);
    let change = unmerged[0].iter().zip(&plain[0]).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    println!("the adapters change logits by up to {change:.3}");
    assert!(change > 0.1);
    let agrees = |what: &str, model: &Rwkv<B>| {
        for (mode, (got, want)) in
            ["forward", "forward_last", "step"].iter().zip(logits(model, device).iter().zip(&unmerged))
        {
            assert_close(&format!("{what}, {mode}"), got, want, 1e-5);
        }
    };
    let lora = model.lora().expect("adapters");
    assert_eq!(lora.num_params(), model.num_params_lazy() - model.config().num_params());
    agrees("merged", &model.clone().merge_lora().expect("plain weights"));
    agrees("adapters of another model", &base::<B>(device).with_lora(&lora).expect("the same sizes"));
    let mut checkpoint = Checkpoint::open(&Fixture::path("model")).expect("the fixture opens");
    checkpoint.merge_lora(&lora).expect("the same sizes");
    agrees("merged checkpoint", &checkpoint.model(device).expect("whole"));
    // Weights that only run take adapters, too, and cannot take them in.
    let checkpoint = Checkpoint::open(&Fixture::path("model")).expect("the fixture opens");
    let cut = checkpoint.tensor_model_within::<B>(Precision::F32, 2000, device).expect("whole");
    let cut = cut.with_lora(&lora).expect("the same sizes");
    agrees("cut", &cut);
    assert!(cut.merge_lora().expect_err("only runs").to_string().contains("less memory"));
    let packed = checkpoint.model_in::<B>(Precision::F32, device).expect("whole").with_lora(&lora);
    agrees("packed", &packed.expect("the same sizes"));
    // And without them the model is what it was.
    let removed = model.remove_lora();
    assert_eq!(logits(&removed, device), plain);
    assert_eq!(removed.fingerprint(), base::<B>(device).fingerprint());
}

/// A gradient's shape and numbers by the parameter's name.
type Gradients = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

fn gradients<B: RwkvBackend>(model: &Rwkv<Autodiff<B>>, device: &B::Device) -> Gradients {
    gradients_of::<B>(model, device, |model, inputs, targets| {
        training_loss(model.forward(inputs, model.zero_state(2)).0, targets)
    })
}

fn gradients_of<B: RwkvBackend>(
    model: &Rwkv<Autodiff<B>>,
    device: &B::Device,
    loss: impl Fn(&Rwkv<Autodiff<B>>, Tensor<Autodiff<B>, 2, Int>, Tensor<Autodiff<B>, 2, Int>) -> Tensor<Autodiff<B>, 1>,
) -> Gradients {
    struct Collect<'a> {
        grads: &'a GradientsParams,
        found: Vec<Option<(Vec<usize>, Vec<f64>)>>,
    }
    impl<B: RwkvBackend> ModuleVisitor<Autodiff<B>> for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
            let grad = self.grads.get::<B, D>(param.id);
            self.found.push(grad.map(|grad| (grad.dims().to_vec(), values(grad))));
        }
    }
    let tokens = |ids: &[i64]| Tensor::from_data(TensorData::new(ids.to_vec(), [2, 4]), device);
    let loss = loss(model, tokens(&TOKENS[..8]), tokens(&TOKENS[1..]));
    let grads = GradientsParams::from_grads(loss.backward(), model);
    let mut collect = Collect { grads: &grads, found: vec![] };
    model.visit(&mut collect);
    let names = model.named_parameters().into_iter().map(|(name, _)| name);
    names.zip(collect.found).filter_map(|(name, grad)| Some((name, grad?))).collect()
}

/// With `G = dL/dW` of the merged model: `dL/dA = scale·G·Bᵀ` and `dL/dB = scale·Aᵀ·G`. Nothing else has a gradient.
fn gradients_follow_from_the_merged_weights<B: RwkvBackend>(device: &B::Device) {
    let model = adapted::<Autodiff<B>>(device);
    let (lora, found) = (model.lora().expect("adapters"), gradients::<B>(&model, device));
    assert_eq!(found.len(), 2 * (7 * 3 + 1));
    let mut checkpoint = Checkpoint::open(&Fixture::path("model")).expect("the fixture opens");
    checkpoint.merge_lora(&lora).expect("the same sizes");
    let merged = gradients::<B>(&checkpoint.model(device).expect("whole"), device);
    let numbers = parameters(&model);
    let numbers =
        |name: &str| -> Vec<f64> { numbers[name].iter().map(|&bits| f64::from(f32::from_bits(bits))).collect() };
    let (rank, scale) = (config().rank, config().scale());
    for (name, (shape, _)) in found.iter().filter(|(name, _)| name.ends_with(".lora_a")) {
        let matrix = name.strip_suffix(".lora_a").expect("filtered");
        let (a, b) = (numbers(name), numbers(&format!("{matrix}.lora_b")));
        let (sizes, g) = &merged[&format!("{matrix}.weight")];
        let (inputs, out) = (sizes[0], sizes[1]);
        assert_eq!(shape, &[inputs, rank]);
        let mut of_a = vec![0.0; inputs * rank];
        let mut of_b = vec![0.0; rank * out];
        for i in 0..inputs {
            for o in 0..out {
                for r in 0..rank {
                    of_a[i * rank + r] += scale * g[i * out + o] * b[r * out + o];
                    of_b[r * out + o] += scale * a[i * rank + r] * g[i * out + o];
                }
            }
        }
        assert_close(name, &found[name].1, &of_a, 2e-5);
        let name = format!("{matrix}.lora_b");
        assert_close(&name, &found[&name].1, &of_b, 2e-5);
    }
}

fn only_adapters_train<B: RwkvBackend>(device: &B::Device) {
    type Train<B> = Autodiff<B>;
    let before = parameters(&base::<Train<B>>(device));
    // Through a clone, the inner backend and back, and an optimizer.
    let model = AutodiffModule::from_inner(adapted::<Train<B>>(device).clone().valid());
    let mut model: Rwkv<Train<B>> = model;
    let start = parameters(&model);
    let mut adam = AdamConfig::new().init();
    for _ in 0..3 {
        let tokens = |ids: &[i64]| Tensor::from_data(TensorData::new(ids.to_vec(), [2, 4]), device);
        let (logits, _) = model.forward(tokens(&TOKENS[..8]), model.zero_state(2));
        let grads = training_loss(logits, tokens(&TOKENS[1..])).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        assert_eq!(grads.len(), 2 * (7 * 3 + 1), "adapters alone have gradients");
        model = adam.step(1e-2, model, grads);
    }
    let after = parameters(&model);
    for (name, bits) in &after {
        match before.get(name) {
            Some(frozen) => assert_eq!(bits, frozen, "{name} is frozen"),
            None => assert_ne!(*bits, start[name], "{name} trains"),
        }
    }
    let merged = model.merge_lora().expect("plain weights");
    assert!(parameters(&merged).keys().eq(before.keys()));
}

/// The loss over chunks of positions takes a path of its own, where a head with an adapter is no plain matrix.
fn the_chunked_loss_sees_the_adapters<B: RwkvBackend>(device: &B::Device) {
    let model = adapted::<Autodiff<B>>(device);
    let plain = gradients::<B>(&model, device);
    let chunked = gradients_of::<B>(&model, device, |model, inputs, targets| {
        let (x, _) = model.hidden(inputs, model.zero_state(2), None, &mut NoHook);
        model.head_loss(x, targets, None, 1e-4, 3, &mut NoHook).div_scalar(8.0)
    });
    assert!(chunked.keys().eq(plain.keys()));
    for (name, (_, want)) in &plain {
        assert_close(name, &chunked[name].1, want, 1e-5);
    }
}

/// Writes the file again with other metadata.
fn with_metadata(file: &Path, edit: impl Fn(&mut HashMap<String, String>)) {
    let bytes = std::fs::read(file).expect("the file");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let mut metadata = header.metadata().clone().expect("metadata");
    edit(&mut metadata);
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let again = safetensors::serialize(tensors.tensors(), Some(metadata)).expect("serialises");
    std::fs::write(file, again).expect("written");
}

fn adapters_survive_files<B: RwkvBackend>(device: &B::Device) {
    let (model, fingerprint) = (adapted::<B>(device), base::<B>(device).fingerprint());
    let checkpoint = Checkpoint::open(&Fixture::path("model")).expect("the fixture opens");
    assert_eq!(checkpoint.fingerprint(), fingerprint, "with or without a model");
    assert_ne!(model.fingerprint(), fingerprint);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("adapter.safetensors");
    let lora = model.lora().expect("adapters");
    let save = || lora.save(&file, &fingerprint).expect("written");
    save();
    let read = Lora::load(&file, &fingerprint).expect("read");
    assert_eq!(read, lora);
    assert_eq!(logits(&base::<B>(device).with_lora(&read).expect("fits"), device), logits(&model, device));

    let refusal = || {
        let said = Lora::load(&file, &fingerprint).expect_err("refused").to_string();
        assert!(said.contains("adapter.safetensors") && !said.contains('\n'), "{said}");
        said
    };
    type Edit = fn(&mut HashMap<String, String>);
    let edits: [(Edit, &str); 8] = [
        (|m| *m.get_mut("version").expect("there") = "2".into(), "reads up to 1"),
        (|m| *m.get_mut("format").expect("there") = "rwkv4-state".into(), "no LoRA adapter"),
        (|m| *m.get_mut("model").expect("there") = "0".repeat(32), "another model"),
        (|m| *m.get_mut("rank").expect("there") = "0".into(), "lora_rank"),
        (|m| *m.get_mut("rank").expect("there") = "999999999999".into(), "blocks.0.att.key.lora_a"),
        (|m| *m.get_mut("alpha").expect("there") = "many".into(), "alpha"),
        (|m| *m.get_mut("targets").expect("there") = "att.query".into(), "att.query"),
        (|m| *m.get_mut("targets").expect("there") = "att.key".into(), "44 tensors, not 6"),
    ];
    for (edit, words) in edits {
        save();
        with_metadata(&file, edit);
        assert!(refusal().contains(words), "{words}: {}", refusal());
    }
    save();
    let bytes = std::fs::read(&file).expect("the file");
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..length]).expect("written");
        refusal();
    }

    // What cannot be done is said.
    let out = folder.path().join("model.safetensors");
    assert!(checkpoint::save(&model, &out).expect_err("no place").to_string().contains("merge_lora"));
    assert!(!out.exists());
    checkpoint::save(&model.clone().merge_lora().expect("plain"), &out).expect("a plain model");
    let twice = model.add_lora(&config(), 0).expect_err("refused").to_string();
    assert!(twice.contains("already"), "{twice}");
    let mut refusals = Vec::new();
    for sizes in [
        RwkvConfig::new(7, 3, 8),
        RwkvConfig { n_layer: 4, ..fingerprint.config().clone() },
        RwkvConfig { n_layer: 2, ..fingerprint.config().clone() },
    ] {
        let model = Rwkv::<B>::new(&sizes, 0, device);
        let other = folder.path().join("other.safetensors");
        checkpoint::save(&model, &other).expect("written");
        let said = model.with_lora(&lora).expect_err("other sizes").to_string();
        let mut checkpoint = Checkpoint::open(&other).expect("written");
        assert_eq!(checkpoint.merge_lora(&lora).expect_err("other sizes").to_string(), said);
        refusals.push(said);
    }
    assert!(refusals[0].contains("blocks.0.att.key") && refusals[0].contains("[8, 8]"), "{refusals:?}");
    assert!(refusals[1].contains("blocks.3") && refusals[1].contains("none"), "{refusals:?}");
    assert!(refusals[2].contains("blocks.2"), "{refusals:?}");
}

on_every_backend!(
    new_adapters_change_nothing,
    merged_is_unmerged,
    gradients_follow_from_the_merged_weights,
    the_chunked_loss_sees_the_adapters,
    only_adapters_train,
    adapters_survive_files,
);
