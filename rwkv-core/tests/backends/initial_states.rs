//! Initial states that train, on every backend: their gradients, and what they stand for.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, meaning, values};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::loss::{token_nll, value};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::{INITIAL_LOG_WEIGHT, InitialState, State};

const KINDS: [&str; 4] = ["att_x", "ffn_x", "mean", "log_weight"];

fn model<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("model"), device).expect("the fixture loads")
}

fn tokens<B: Backend>(ids: [[i64; 4]; 2], device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(ids, device)
}

/// A loss of two sequences that begin with this state, in which the final state counts, too.
fn loss<B: RwkvBackend>(model: &Rwkv<B>, initial: &InitialState<B>, device: &B::Device) -> Tensor<B, 1> {
    let (logits, state) = model.forward(tokens([[3, 1, 4, 1], [5, 9, 2, 6]], device), initial.state(2));
    let last = &state.layers[1].memory;
    let ratio = last.clone().narrow(1, 0, 1) / last.clone().narrow(1, 1, 1);
    token_nll(logits, tokens([[1, 4, 1, 5], [9, 2, 6, 5]], device)).mean() + ratio.mean()
}

/// Adds `step·sin(…)` to every parameter of one kind.
struct Move {
    kind: &'static str,
    step: f64,
    inside: String,
    count: usize,
}

fn direction(from: usize, len: usize) -> Vec<f64> {
    (from..from + len).map(|i| (i as f64 * 1.3).sin()).collect()
}

impl<B: Backend> ModuleMapper<B> for Move {
    fn enter_module(&mut self, name: &str, _container: &str) {
        name.clone_into(&mut self.inside);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.inside != self.kind {
            return param;
        }
        let shape = param.dims();
        let len = shape.iter().product();
        let step = direction(self.count, len).into_iter().map(|x| (self.step * x) as f32).collect::<Vec<_>>();
        self.count += len;
        param.map(|x| {
            let step = Tensor::from_data(TensorData::new(step, shape), &x.device());
            x.set_require_grad(false) + step
        })
    }
}

struct Slope<'a> {
    grads: &'a GradientsParams,
    kind: &'static str,
    inside: String,
    count: usize,
    sum: f64,
}

impl<B: RwkvBackend> ModuleVisitor<Autodiff<B>> for Slope<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        name.clone_into(&mut self.inside);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
        if self.inside != self.kind {
            return;
        }
        let grad = values(self.grads.get::<B, D>(param.id).expect("every parameter has a gradient"));
        self.sum += grad.iter().zip(direction(self.count, grad.len())).map(|(g, d)| g * d).sum::<f64>();
        self.count += grad.len();
    }
}

fn gradients_are_those_of_finite_differences<B: RwkvBackend>(device: &B::Device) {
    let model = model::<Autodiff<B>>(device).frozen();
    let read = model.read(Tensor::from_data([[7, 2]], device), model.zero_state(1));
    for (start, initial) in
        [("read", InitialState::from_state(&read)), ("new", InitialState::new(&model.config(), device))]
    {
        let grads = GradientsParams::from_grads(loss(&model, &initial, device).backward(), &initial);
        assert_eq!(grads.len(), 4 * 3);
        for kind in KINDS {
            let mut slope = Slope { grads: &grads, kind, inside: String::new(), count: 0, sum: 0.0 };
            initial.visit(&mut slope);
            let step = 1e-2;
            let at = |step: f64| {
                let moved = initial.clone().map(&mut Move { kind, step, inside: String::new(), count: 0 });
                value(loss(&model, &moved, device))
            };
            let difference = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step);
            println!("{start}, {kind}: {} by differences, {difference}", slope.sum);
            assert!(slope.sum.abs() > 1e-5, "{start}, {kind}: alive");
            let error = (slope.sum - difference).abs();
            assert!(error < 1e-2 * slope.sum.abs() + 5e-5, "{start}, {kind}: {} against {difference}", slope.sum);
        }
    }
}

fn they_stand_for_states<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let state = model.read(Tensor::from_data([[7, 2, 5], [1, 1, 3]], device), model.zero_state(2));
    let initial = InitialState::from_state(&state);
    assert_close("the first sequence", &meaning(&initial.state(1)), &meaning(&state.select(&[0])), 1e-6);
    let twice = initial.state(2);
    assert_close("both of a batch", &meaning(&twice.select(&[1])), &meaning(&initial.state(1)), 0.0);
    let next = |state: State<B>| values(model.step(Tensor::from_data([4], device), state).0);
    assert_close("the next token", &next(initial.state(1)), &next(state.select(&[0])), 1e-5);

    // An empty state has no weight to train; its place takes that of a new start.
    let empty = InitialState::from_state(&model.zero_state(1));
    let new = InitialState::<B>::new(&model.config(), device);
    assert_close("empty", &meaning(&empty.state(1)), &meaning(&new.state(1)), 0.0);
    assert!(values(new.layers[2].log_weight.val()).iter().all(|&q| (q - INITIAL_LOG_WEIGHT).abs() < 1e-6));

    // Through a file it is a state like any other.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.safetensors");
    initial.state(1).save(&file, &model.fingerprint()).expect("written");
    let loaded = State::<B>::load(&file, &model.fingerprint(), device).expect("read");
    assert_eq!(next(loaded), next(initial.state(1)));
}

fn no_weight_is_too_large_or_too_small<B: RwkvBackend>(device: &B::Device) {
    let model = model::<Autodiff<B>>(device).frozen();
    for log_weight in [-1e30, -1e4, -100.0, 100.0, 1e4] {
        let initial = InitialState::with_log_weight(&model.config(), log_weight, device);
        let loss = loss(&model, &initial, device);
        assert!(value(loss.clone()).is_finite(), "{log_weight}");
        let grads = GradientsParams::from_grads(loss.backward(), &initial);
        for layer in &initial.layers {
            for param in [&layer.att_x, &layer.ffn_x, &layer.mean, &layer.log_weight] {
                let grad = values(grads.get::<B, 1>(param.id).expect("a gradient"));
                assert!(grad.iter().all(|x| x.is_finite()), "{log_weight}");
            }
        }
    }
}

on_every_backend!(
    gradients_are_those_of_finite_differences,
    they_stand_for_states,
    no_weight_is_too_large_or_too_small,
);
