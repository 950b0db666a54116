//! What every mixer must do, whichever are in the lists: a new one is tested by its line there.

use crate::support::{assert_close, say, values};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{ChannelMixerKind, Mixers, NoHook, Restarts, Rwkv, SequenceMixerKind};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;

/// RWKV-4 with switches, and shells.
const VARIANTS: [(&str, &str); 12] = [
    ("no shift", r#"{"sequence": {"rwkv-4-ablated": {"token_shift": "none"}}}"#),
    ("half shift", r#"{"sequence": {"rwkv-4-ablated": {"token_shift": "half", "bonus": "zero"}}}"#),
    ("shift per head", r#"{"sequence": {"rwkv-4-ablated": {"token_shift": {"per-head": 4}, "receptance": "tanh"}}}"#),
    ("shared decay", r#"{"sequence": {"rwkv-4-ablated": {"decay": "shared", "key": "linear"}}}"#),
    ("decay by schedule", r#"{"sequence": {"rwkv-4-ablated": {"decay": "schedule", "receptance": "none"}}}"#),
    ("no decay", r#"{"sequence": {"rwkv-4-ablated": {"decay": "none"}}}"#),
    ("tiny attention", r#"{"sequence": {"rwkv-4-ablated": {"tiny_attention": 15}}}"#),
    ("linear tiny attention", r#"{"tiny_attention": {"size": 5, "layer": 1}}"#),
    ("swiglu", r#"{"channel": {"rwkv-4-ablated": {"activation": "swiglu", "gate": false}}}"#),
    ("gelu", r#"{"channel": {"rwkv-4-ablated": {"activation": "gelu", "token_shift": {"per-head": 2}}}}"#),
    ("without ln0", r#"{"shell": "rwkv-4-without-ln0", "channel": {"rwkv-4-ablated": {"activation": "relu"}}}"#),
    ("tied head", r#"{"tied_head": true}"#),
];

/// All dimensions differ, and nothing is a multiple of a vector's width.
fn configs() -> Vec<(&'static str, RwkvConfig)> {
    let config = |mixers: Mixers| {
        // The state of a tiny attention has rows of the model's width, and the mixer's above it must have it, too.
        let dim_att = if mixers.tiny_attention.is_some() { 16 } else { 24 };
        RwkvConfig { dim_att, dim_ffn: 20, mixers, ..RwkvConfig::new(13, 2, 16) }
    };
    let variants =
        VARIANTS.iter().map(|(name, json)| (*name, config(serde_json::from_str(json).expect("a choice of mixers"))));
    let sequences = SequenceMixerKind::all().into_iter().map(|sequence| {
        let mixers = Mixers { sequence, ..Mixers::default() };
        (sequence.name(), config(mixers))
    });
    let channels = ChannelMixerKind::all().into_iter().map(|channel| {
        let mixers = Mixers { channel, ..Mixers::default() };
        (channel.name(), config(mixers))
    });
    sequences.chain(channels).chain(variants).collect()
}

/// Adds noise to every parameter, because many start as zeros, times a factor.
struct Stir(StdRng, f64);

impl<B: Backend> ModuleMapper<B> for Stir {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let noise: Vec<f32> =
                (0..shape.num_elements()).map(|_| self.0.random_range(-1.0f32..1.0) * self.1 as f32).collect();
            let noise = Tensor::from_data(TensorData::new(noise, shape), &tensor.device());
            let asks = tensor.is_require_grad();
            (tensor.set_require_grad(false) + noise).set_require_grad(asks)
        })
    }
}

/// A model whose parameters all differ from zero.
pub fn stirred<B: Backend>(config: &RwkvConfig, device: &B::Device) -> Rwkv<B> {
    Rwkv::new(config, 5, device).map(&mut Stir(StdRng::seed_from_u64(3), 0.3))
}

fn ids<B: Backend>(ids: &[i32], rows: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [rows, ids.len() / rows]), device)
}

fn tokens() -> Vec<i32> {
    (0..26).map(|i| (i * i + 5 * i) % 13).collect()
}

/// In one pass, in pieces and token by token.
fn modes_of_mixers_agree<B: RwkvBackend>(device: &B::Device) {
    for (name, config) in configs() {
        say(name);
        let model = stirred::<B>(&config, device);
        assert_eq!((model.num_params_lazy(), model.config().mixers), (config.num_params(), config.mixers));
        let tokens = ids::<B>(&tokens(), 2, device);
        let (whole, _) = model.forward(tokens.clone(), model.zero_state(2));
        for pieces in [vec![1; 13], vec![5, 1, 7]] {
            let (mut state, mut at, mut got) = (model.zero_state(2), 0, Vec::new());
            for length in pieces {
                let (logits, next) = model.forward(tokens.clone().narrow(1, at, length), state);
                got.push(logits);
                (state, at) = (next, at + length);
            }
            assert_close(name, &values(Tensor::cat(got, 1)), &values(whole.clone()), 3e-5);
        }
    }
}

/// Two sequences of different lengths go on as one batch.
fn rows_of_mixers_may_differ_in_length<B: RwkvBackend>(device: &B::Device) {
    for (name, config) in configs() {
        let model = stirred::<B>(&config, device);
        let tokens = tokens();
        let after = |row: usize, length: usize| {
            let row = ids::<B>(&tokens[13 * row..13 * row + length], 1, device);
            model.forward(row, model.zero_state(1)).1
        };
        let batch = State::cat(vec![after(0, 6), after(1, 2), after(1, 2)]).select(&[2, 0]);
        let next = [&tokens[13 + 2..13 + 7], &tokens[6..11]].concat();
        let (logits, _) = model.forward(ids(&next, 2, device), batch);
        let (whole, _) = model.forward(ids(&tokens, 2, device), model.zero_state(2));
        let row = |row: usize, from: usize| whole.clone().narrow(0, row, 1).narrow(1, from, 5);
        let want = Tensor::cat(vec![row(1, 2), row(0, 6)], 0);
        assert_close(name, &values(logits), &values(want), 3e-5);
    }
}

/// Texts side by side in a row do not see each other, nor do those that come after them.
fn texts_of_mixers_are_apart<B: RwkvBackend>(device: &B::Device) {
    for (name, config) in configs() {
        let model = stirred::<B>(&config, device);
        let tokens = tokens();
        let before = model.forward(ids(&[3, 1, 4, 1], 2, device), model.zero_state(2)).1;
        let restarts = Restarts::new(&[(4, 0), (9, 0), (9, 1), (0, 1)], 2, model.zero_state(1));
        let (x, after) = model.hidden(ids(&tokens, 2, device), before.clone(), Some(&restarts), &mut NoHook);
        let alone = |row: usize, from: usize, to: usize, state: State<B>| {
            let part = ids::<B>(&tokens[13 * row + from..13 * row + to], 1, device);
            values(model.hidden(part, state, None, &mut NoHook).0)
        };
        let empty = || model.zero_state(1);
        let want = [
            alone(0, 0, 4, before.select(&[0])),
            alone(0, 4, 9, empty()),
            alone(0, 9, 13, empty()),
            alone(1, 0, 9, empty()),
            alone(1, 9, 13, empty()),
        ];
        assert_close(name, &values(x), &want.concat(), 3e-5);
        let next = |state: State<B>| values(model.step(Tensor::from_data([8], device), state).0);
        let last = ids::<B>(&tokens[9..13], 1, device);
        assert_close(name, &next(after.select(&[0])), &next(model.forward(last, empty()).1), 3e-5);
    }
}

/// A checkpoint, and a state of it.
fn files_hold_every_mixer<B: RwkvBackend>(device: &B::Device) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, config) in configs() {
        let model = stirred::<B>(&config, device);
        let path = folder.path().join(format!("{name}.safetensors"));
        checkpoint::save(&model, &path).expect("written");
        let copy: Rwkv<B> = checkpoint::load(&path, device).expect("read");
        assert_eq!((copy.fingerprint(), copy.config()), (model.fingerprint(), model.config()), "{name}");
        let (_, state) = model.forward(ids(&tokens(), 1, device), model.zero_state(1));
        let file = folder.path().join(format!("{name}-state.safetensors"));
        state.save(&file, &model.fingerprint()).expect("written");
        let back = State::<B>::load(&file, &copy.fingerprint(), device).expect("read");
        let go_on = |model: &Rwkv<B>, state: State<B>| values(model.step(Tensor::from_data([5], device), state).0);
        assert_eq!(go_on(&copy, back), go_on(&model, state), "{name}");
    }
}

/// Sums the products of the gradients with a direction, and looks for parameters without any.
struct Along<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
    rng: StdRng,
    sum: f64,
    without: usize,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Along<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let direction: Vec<f64> =
            (0..tensor.shape().num_elements()).map(|_| f64::from(self.rng.random_range(-1.0f32..1.0))).collect();
        match tensor.grad(self.gradients) {
            Some(gradient) => {
                let gradient = values(gradient);
                self.without += usize::from(gradient.iter().all(|x| *x == 0.0));
                self.sum += gradient.iter().zip(&direction).map(|(g, d)| g * d).sum::<f64>();
            }
            None => self.without += 1,
        }
    }
}

/// Every parameter learns, and the loss changes along a direction as the gradients say.
fn gradients_of_mixers_are_those_of_the_loss<B: RwkvBackend>(device: &B::Device) {
    for (name, mut config) in configs() {
        if let ChannelMixerKind::Moe(settings) = &mut config.mixers.channel {
            // Its gradients are those of the loss and of the balance of its experts, which is no part of the loss; and a step
            // of finite differences in `f32` is wide enough for some token to go to another expert, where the loss jumps.
            // `recurrent_mixers.rs` has the gradients of both, by finite differences in `f64`.
            (settings.balance, settings.top_k) = (0.0, settings.experts);
        }
        let model = stirred::<Autodiff<B>>(&config, device);
        let (inputs, targets) = (tokens(), tokens().into_iter().rev().collect::<Vec<_>>());
        let (x, _) = model.hidden(ids(&inputs, 2, device), model.zero_state(2), None, &mut NoHook);
        let gradients = model.head_loss(x, ids(&targets, 2, device), None, 0.0, 0, &mut NoHook).backward();
        let mut along =
            Along::<Autodiff<B>> { gradients: &gradients, rng: StdRng::seed_from_u64(11), sum: 0.0, without: 0 };
        model.visit(&mut along);
        assert_eq!(along.without, 0, "{name} has parameters without a gradient");
        let loss = |step: f64| {
            let moved = model.valid().map(&mut Stir(StdRng::seed_from_u64(11), step));
            let (x, _) = moved.hidden(ids(&inputs, 2, device), moved.zero_state(2), None, &mut NoHook);
            values(moved.head_loss(x, ids(&targets, 2, device), None, 0.0, 0, &mut NoHook))[0]
        };
        let step = 2e-3;
        let slope = (loss(step) - loss(-step)) / (2.0 * step);
        assert_close(name, &[along.sum], &[slope], 1e-2);
    }
}

on_every_backend!(
    modes_of_mixers_agree,
    rows_of_mixers_may_differ_in_length,
    texts_of_mixers_are_apart,
    files_hold_every_mixer,
    gradients_of_mixers_are_those_of_the_loss,
);
