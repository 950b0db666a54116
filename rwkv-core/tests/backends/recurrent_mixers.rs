//! Mixers with a state of fixed size, and the mixture of experts, against their formulas: values and gradients, token by token
//! in `f64`.

use crate::every_mixer::stirred;
use crate::support::{assert_close, values};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{
    ChannelMixerKind, LemSettings, LinearAttentionSettings, LstmSettings, Mixers, MoeSettings, Rwkv, S4dSettings,
    SequenceMixerKind, expert_usage,
};
use rwkv_core::ops::RwkvBackend;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// All numbers that a mixer depends on: its parameters by local name (matrices `[in, out]`), `x` and `memory`.
type Numbers = BTreeMap<String, Vec<f64>>;

const BATCH: usize = 2;
const C: usize = 10;
const A: usize = 12;
const F: usize = 19;

/// Collects the parameters of one mixer, or their gradients.
struct Collect<'a, B: AutodiffBackend> {
    names: &'a [(String, ParamId)],
    part: &'a str,
    gradients: Option<&'a B::Gradients>,
    found: Numbers,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = &self.names.iter().find(|(_, id)| *id == param.id).expect("named").0;
        let Some(local) = name.strip_prefix(self.part) else { return };
        let numbers = match self.gradients {
            None => values(param.val()),
            Some(gradients) => values(param.val().grad(gradients).expect("every parameter has a gradient")),
        };
        self.found.insert(local.to_owned(), numbers);
    }
}

fn collect<B: AutodiffBackend>(model: &Rwkv<B>, part: &str, gradients: Option<&B::Gradients>) -> Numbers {
    let names = model.named_parameters();
    let mut collect = Collect::<B> { names: &names, part, gradients, found: Numbers::new() };
    model.visit(&mut collect);
    collect.found
}

fn noise(count: usize, rng: &mut StdRng) -> Vec<f64> {
    (0..count).map(|_| f64::from(rng.random_range(-1.0f32..1.0))).collect()
}

fn tensor<B: Backend, const D: usize>(numbers: &[f64], shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(numbers.iter().map(|x| *x as f32).collect::<Vec<_>>(), shape), device)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Of every kind of number: the product of its gradients with a direction is the slope of the formula's loss.
fn compare_gradients(what: &str, numbers: &Numbers, gradients: &Numbers, loss: impl Fn(&Numbers) -> f64) {
    let mut rng = StdRng::seed_from_u64(21);
    for (name, at) in numbers {
        let direction = noise(at.len(), &mut rng);
        let step = 1e-6;
        let moved = |by: f64| {
            let mut numbers = numbers.clone();
            numbers.insert(name.clone(), at.iter().zip(&direction).map(|(x, d)| x + by * d).collect());
            loss(&numbers)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert_close(&format!("{what}, gradient of {name}"), &[dot(&gradients[name], &direction)], &[slope], 1e-4);
    }
}

/// The outputs `[T, C]` and the memory after them, by the formula; of one row.
type Formula = fn(&Numbers, &[f64], &[f64]) -> (Vec<f64>, Vec<f64>);

fn is_its_formula<B: RwkvBackend>(sequence: SequenceMixerKind, time: usize, formula: Formula, device: &B::Device) {
    let mixers = Mixers { sequence, ..Mixers::default() };
    let config = RwkvConfig { dim_att: A, dim_ffn: F, mixers, ..RwkvConfig::new(13, 1, C) };
    let model = stirred::<Autodiff<B>>(&config, device);
    let what = sequence.name();
    let mut rng = StdRng::seed_from_u64(8);
    let empty = model.zero_state(BATCH).layers[0].memory.clone();
    let [_, rows, columns] = empty.dims();
    let mut numbers = collect(&model, "blocks.0.att.", None);
    numbers.insert("x".into(), noise(BATCH * time * C, &mut rng));
    // A past in which sums of weights are positive.
    numbers.insert("memory".into(), noise(BATCH * rows * columns, &mut rng).iter().map(|x| 0.2 * x + 1.0).collect());

    let x = tensor::<Autodiff<B>, 3>(&numbers["x"], [BATCH, time, C], device).require_grad();
    let memory = tensor::<Autodiff<B>, 3>(&numbers["memory"], [BATCH, rows, columns], device).require_grad();
    let last = Tensor::zeros([BATCH, C], device);
    let (y, _, after) = model.blocks[0].att.forward(x.clone(), last, memory.clone(), None, &mut |_, x| x);
    let apply = |numbers: &Numbers| {
        let (mut y, mut after) = (Vec::new(), Vec::new());
        let pasts = numbers["memory"].chunks(rows * columns);
        for (x, memory) in numbers["x"].chunks(time * C).zip(pasts) {
            let row = formula(numbers, x, memory);
            y.extend(row.0);
            after.extend(row.1);
        }
        (y, after)
    };
    let want = apply(&numbers);
    assert_close(&format!("{what}, outputs"), &values(y.clone()), &want.0, 1e-5);
    assert_close(&format!("{what}, memory"), &values(after.clone()), &want.1, 1e-5);

    let weights = (noise(want.0.len(), &mut rng), noise(want.1.len(), &mut rng));
    let of_y = tensor::<Autodiff<B>, 3>(&weights.0, [BATCH, time, C], device);
    let of_memory = tensor::<Autodiff<B>, 3>(&weights.1, [BATCH, rows, columns], device);
    let found = ((y * of_y).sum() + (after * of_memory).sum()).backward();
    let mut gradients = collect(&model, "blocks.0.att.", Some(&found));
    gradients.insert("x".into(), values(x.grad(&found).expect("tracked")));
    gradients.insert("memory".into(), values(memory.grad(&found).expect("tracked")));
    compare_gradients(what, &numbers, &gradients, |numbers| {
        let (y, after) = apply(numbers);
        dot(&y, &weights.0) + dot(&after, &weights.1)
    });
}

/// `W·x` for a matrix `[in, out]`.
fn product(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    let out = matrix.len() / x.len();
    (0..out).map(|o| x.iter().enumerate().map(|(i, x)| x * matrix[i * out + o]).sum()).collect()
}

fn sum(terms: &[&[f64]]) -> Vec<f64> {
    (0..terms[0].len()).map(|i| terms.iter().map(|term| term[i]).sum()).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x·Φ(x)`, with `Φ = ½ + φ(x)·Σ x^{2n+1}/(2n+1)!!`.
fn gelu(x: f64) -> f64 {
    let (mut term, mut series, mut n) = (x, 0.0, 1.0);
    while f64::abs(term) > 1e-18 {
        series += term;
        term *= x * x / (2.0 * n + 1.0);
        n += 1.0;
    }
    x * (0.5 + (-0.5 * x * x).exp() / (2.0 * PI).sqrt() * series)
}

fn lstm(p: &Numbers, x: &[f64], memory: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut h, mut c) = (memory[..A].to_vec(), memory[A..].to_vec());
    let bias = [&p["input_bias"][..], &p["forget_bias"], &p["output_bias"], &p["cell_bias"]].concat();
    let mut out = Vec::new();
    for x in x.chunks(C) {
        let gates = sum(&[&product(&p["input.weight"], x), &product(&p["recurrent.weight"], &h), &bias]);
        for i in 0..A {
            let [input, forget, output] = [0, 1, 2].map(|gate| sigmoid(gates[gate * A + i]));
            c[i] = forget * c[i] + input * gates[3 * A + i].tanh();
            h[i] = output * c[i].tanh();
        }
        out.extend(product(&p["output.weight"], &h));
    }
    (out, [h, c].concat())
}

fn lem(p: &Numbers, x: &[f64], memory: &[f64]) -> (Vec<f64>, Vec<f64>) {
    const DT: f64 = 0.7;
    let (mut y, mut z) = (memory[..A].to_vec(), memory[A..].to_vec());
    let mut out = Vec::new();
    for x in x.chunks(C) {
        let v = sum(&[&product(&p["input.weight"], x), &p["bias"]]);
        let w = product(&p["recurrent.weight"], &y);
        for i in 0..A {
            let step = DT * sigmoid(w[i] + v[i]);
            z[i] = (1.0 - step) * z[i] + step * (w[2 * A + i] + v[2 * A + i]).tanh();
        }
        let of_z = product(&p["cell.weight"], &z);
        for i in 0..A {
            let step = DT * sigmoid(w[A + i] + v[A + i]);
            y[i] = (1.0 - step) * y[i] + step * (of_z[i] + v[3 * A + i]).tanh();
        }
        out.extend(product(&p["output.weight"], &y));
    }
    (out, [y, z].concat())
}

fn linear_attention(p: &Numbers, x: &[f64], memory: &[f64]) -> (Vec<f64>, Vec<f64>) {
    const HEADS: usize = 3;
    const D: usize = A / HEADS;
    let phi = |x: f64| if x > 0.0 { x + 1.0 } else { x.exp() };
    let mut memory = memory.to_vec(); // for every channel of the keys: D sums of values, and one of weights
    let mut out = Vec::new();
    for x in x.chunks(C) {
        let [q, k, v] = ["query", "key", "value"].map(|name| product(&p[&format!("{name}.weight")], x));
        let mut y = vec![0.0; A];
        for head in 0..HEADS {
            let mut sums = [0.0; D + 1];
            for i in head * D..(head + 1) * D {
                for j in 0..=D {
                    let value = if j < D { v[head * D + j] } else { 1.0 };
                    memory[i * (D + 1) + j] += phi(k[i]) * value;
                    sums[j] += phi(q[i]) * memory[i * (D + 1) + j];
                }
            }
            (0..D).for_each(|j| y[head * D + j] = sums[j] / sums[D]);
        }
        out.extend(product(&p["output.weight"], &y));
    }
    (out, memory)
}

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn exp(a: Complex) -> Complex {
    (a.0.exp() * a.1.cos(), a.0.exp() * a.1.sin())
}

fn over(a: Complex, b: Complex) -> Complex {
    let squared = b.0 * b.0 + b.1 * b.1;
    times(a, (b.0 / squared, -b.1 / squared))
}

fn s4d(p: &Numbers, x: &[f64], memory: &[f64]) -> (Vec<f64>, Vec<f64>) {
    const STATES: usize = 4;
    let mut states = vec![(0.0, 0.0); A * STATES];
    let parts = |channel: usize, state: usize| {
        let i = channel * STATES + state;
        let a = (-0.5 * p["log_decay"][i].exp(), p["frequency"][i]);
        let dt = p["log_dt"][channel].exp();
        let a_bar = exp((dt * a.0, dt * a.1));
        (a_bar, over((a_bar.0 - 1.0, a_bar.1), a), (p["read_real"][i], p["read_imag"][i]))
    };
    // In the memory are the states divided by B̄, real parts first.
    let place = |channel: usize, state: usize| [state * A + channel, (STATES + state) * A + channel];
    for channel in 0..A {
        for state in 0..STATES {
            let [real, imag] = place(channel, state).map(|place| memory[place]);
            states[channel * STATES + state] = times(parts(channel, state).1, (real, imag));
        }
    }
    let mut out = Vec::new();
    for x in x.chunks(C) {
        let u = product(&p["input.weight"], x);
        let mut y = vec![0.0; A];
        for channel in 0..A {
            for state in 0..STATES {
                let (a_bar, b_bar, c) = parts(channel, state);
                let held = &mut states[channel * STATES + state];
                let kept = times(a_bar, *held);
                *held = (kept.0 + b_bar.0 * u[channel], kept.1 + b_bar.1 * u[channel]);
                y[channel] += 2.0 * times(c, *held).0;
            }
            y[channel] = gelu(y[channel] + p["skip"][channel] * u[channel]);
        }
        out.extend(product(&p["output.weight"], &y));
    }
    let mut after = vec![0.0; memory.len()];
    for channel in 0..A {
        for state in 0..STATES {
            let (real, imag) = over(states[channel * STATES + state], parts(channel, state).1);
            let places = place(channel, state);
            (after[places[0]], after[places[1]]) = (real, imag);
        }
    }
    (out, after)
}

fn an_lstm_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    is_its_formula::<B>(SequenceMixerKind::Lstm(LstmSettings {}), 23, lstm, device);
}

fn lem_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    is_its_formula::<B>(SequenceMixerKind::Lem(LemSettings { dt: 0.7 }), 23, lem, device);
}

fn linear_attention_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    let kind = SequenceMixerKind::LinearAttention(LinearAttentionSettings { n_head: 3 });
    for time in [1, 64, 200] {
        is_its_formula::<B>(kind, time, linear_attention, device);
    }
}

fn s4d_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    let kind = SequenceMixerKind::S4d(S4dSettings { state: 8, ..S4dSettings::default() });
    for time in [1, 64, 200] {
        is_its_formula::<B>(kind, time, s4d, device);
    }
}

/// S4D-Lin: `A_n = −½ + iπn`, steps between the shortest and the longest.
fn s4d_starts_as_s4d_lin<B: RwkvBackend>(device: &B::Device) {
    let mixers = Mixers { sequence: SequenceMixerKind::S4d(S4dSettings::default()), ..Mixers::default() };
    let config = RwkvConfig { dim_att: 40, mixers, ..RwkvConfig::new(13, 1, C) };
    let start = collect(&Rwkv::<Autodiff<B>>::new(&config, 1, device), "blocks.0.att.", None);
    assert!(start["log_decay"].iter().all(|x| *x == 0.0));
    let ramp: Vec<f64> = (0..40 * 32).map(|i| PI * f64::from(i % 32)).collect();
    assert_close("frequencies", &start["frequency"], &ramp, 1e-6);
    let steps: Vec<f64> = start["log_dt"].iter().map(|x| x.exp()).collect();
    assert!(steps.iter().all(|dt| (0.00099..0.101).contains(dt)), "{steps:?}");
    let short = steps.iter().filter(|dt| **dt < 0.01).count();
    assert!((10..=30).contains(&short), "half of the channels are below the geometric mean, not {short} of 40");
    let square = dot(&start["read_real"], &start["read_real"]) + dot(&start["read_imag"], &start["read_imag"]);
    assert!((square / (40.0 * 32.0) - 1.0).abs() < 0.1, "C has the variance 1, not {square}");
}

const EXPERTS: usize = 5;
const TOP: usize = 2;

/// Outputs of all tokens and the balance of the experts, by the formula.
fn moe(p: &Numbers) -> (Vec<f64>, f64) {
    let (mut out, mut tokens) = (Vec::new(), 0.0);
    let (mut choices, mut means) = ([0.0; EXPERTS], [0.0; EXPERTS]);
    for x in p["x"].chunks(C) {
        let logits = product(&p["router.weight"], x);
        let all: f64 = logits.iter().map(|x| x.exp()).sum();
        let probabilities: Vec<f64> = logits.iter().map(|x| x.exp() / all).collect();
        let mut order: Vec<usize> = (0..EXPERTS).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        let chosen = &order[..TOP];
        let kept: f64 = chosen.iter().map(|expert| probabilities[*expert]).sum();
        let key = product(&p["key.weight"], x);
        let mut y = vec![0.0; C];
        for &expert in chosen {
            choices[expert] += 1.0;
            for unit in (0..F).filter(|unit| unit * EXPERTS / F == expert) {
                let hidden = key[unit].max(0.0).powi(2) * probabilities[expert] / kept;
                (0..C).for_each(|o| y[o] += hidden * p["value.weight"][unit * C + o]);
            }
        }
        (0..EXPERTS).for_each(|expert| means[expert] += probabilities[expert]);
        out.extend(y);
        tokens += 1.0;
    }
    let terms = choices.iter().zip(means).map(|(choices, mean)| choices / (tokens * TOP as f64) * (mean / tokens));
    (out, EXPERTS as f64 * terms.sum::<f64>())
}

/// Outputs, and gradients of outputs and balance together, whatever the loss is multiplied by.
fn a_mixture_of_experts_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    const TIME: usize = 9;
    for (balance, scale) in [(0.0, 1.0), (0.5, 1.0), (0.5, 1e-2), (7.0, 1.0)] {
        let settings = MoeSettings { experts: EXPERTS, top_k: TOP, balance };
        let mixers = Mixers { channel: ChannelMixerKind::Moe(settings), ..Mixers::default() };
        let config = RwkvConfig { dim_att: A, dim_ffn: F, mixers, ..RwkvConfig::new(13, 1, C) };
        let model = stirred::<Autodiff<B>>(&config, device);
        let mut rng = StdRng::seed_from_u64(4);
        let mut numbers = collect(&model, "blocks.0.ffn.", None);
        numbers.insert("x".into(), noise(BATCH * TIME * C, &mut rng));
        let x = tensor::<Autodiff<B>, 3>(&numbers["x"], [BATCH, TIME, C], device).require_grad();
        let last = Tensor::zeros([BATCH, C], device);
        let (y, _) = model.blocks[0].ffn.forward(x.clone(), last, None, &mut |_, x| x);
        assert_close("moe, outputs", &values(y.clone()), &moe(&numbers).0, 1e-5);
        let weights = noise(BATCH * TIME * C, &mut rng);
        let found = (y * tensor(&weights, [BATCH, TIME, C], device)).sum().mul_scalar(scale).backward();
        let mut gradients = collect(&model, "blocks.0.ffn.", Some(&found));
        gradients.insert("x".into(), values(x.grad(&found).expect("tracked")));
        compare_gradients(&format!("moe, balance {balance} x {scale}"), &numbers, &gradients, |numbers| {
            let (y, imbalance) = moe(numbers);
            scale * dot(&y, &weights) + balance * imbalance
        });
    }
}

/// Steps against the balance's gradient make a one-sided router use its experts alike, and the report says so.
fn balance_spreads_tokens<B: RwkvBackend>(device: &B::Device) {
    let settings = MoeSettings { experts: 4, top_k: 1, balance: 1.0 };
    let mixers = Mixers { channel: ChannelMixerKind::Moe(settings), ..Mixers::default() };
    let config = RwkvConfig { mixers, ..RwkvConfig::new(40, 2, 16) };
    let mut model = stirred::<Autodiff<B>>(&config, device);
    let tokens =
        Tensor::<Autodiff<B>, 2, Int>::from_data(TensorData::new((0..40).collect::<Vec<i32>>(), [2, 20]), device);
    let most = |model: &Rwkv<Autodiff<B>>| {
        let usage = expert_usage(model, tokens.clone());
        assert_eq!(usage.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), [0, 1]);
        usage
            .into_iter()
            .map(|(_, shares)| {
                assert_eq!(shares.len(), 4);
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                shares.into_iter().fold(0.0, f64::max)
            })
            .fold(0.0, f64::max)
    };
    let before = most(&model);
    // On the way there and back tokens change sides together; by then every expert has a quarter of them, on Flex.
    for _ in 0..400 {
        // A loss without any interest of its own.
        let (x, _) = model.hidden(tokens.clone(), model.zero_state(2), None, &mut rwkv_core::model::NoHook);
        let gradients = x.sum().mul_scalar(0.0).backward();
        model = model.map(&mut Descend::<Autodiff<B>> { gradients: &gradients });
    }
    let after = most(&model);
    assert!(before > 0.39 && after < 0.31, "the most used expert had {before} of the tokens, and then {after}");
}

struct Descend<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
}

impl<B: AutodiffBackend> burn::module::ModuleMapper<B> for Descend<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| match tensor.grad(self.gradients) {
            None => tensor,
            Some(gradient) => Tensor::from_inner(tensor.inner() - gradient.mul_scalar(0.5)).require_grad(),
        })
    }
}

/// Models without experts have no usage of them.
fn usage_is_of_experts<B: RwkvBackend>(device: &B::Device) {
    let model = Rwkv::<B>::new(&RwkvConfig::new(13, 1, C), 0, device);
    assert!(expert_usage(&model, Tensor::from_data([[1, 2]], device)).is_empty());
}

on_every_backend!(
    an_lstm_is_its_formula,
    lem_is_its_formula,
    linear_attention_is_its_formula,
    s4d_is_its_formula,
    s4d_starts_as_s4d_lin,
    a_mixture_of_experts_is_its_formula,
    balance_spreads_tokens,
    usage_is_of_experts,
);

/// What does not fit is refused by name.
#[test]
fn settings_are_checked() {
    let said = |mixers: Mixers| {
        let config = RwkvConfig { dim_att: A, dim_ffn: F, mixers, ..RwkvConfig::new(13, 1, C) };
        config.validate().expect_err("refused").to_string()
    };
    let sequence = |sequence| Mixers { sequence, ..Mixers::default() };
    let channel = |settings| Mixers { channel: ChannelMixerKind::Moe(settings), ..Mixers::default() };
    let s4d = S4dSettings::default();
    let moe = MoeSettings::default();
    for (mixers, key) in [
        (sequence(SequenceMixerKind::S4d(S4dSettings { state: 7, ..s4d })), "state"),
        (sequence(SequenceMixerKind::S4d(S4dSettings { dt_min: 0.0, ..s4d })), "dt_min"),
        (sequence(SequenceMixerKind::S4d(S4dSettings { dt_max: 1e-4, ..s4d })), "dt_max"),
        (sequence(SequenceMixerKind::Lem(LemSettings { dt: 1.5 })), "dt"),
        (sequence(SequenceMixerKind::LinearAttention(LinearAttentionSettings { n_head: 5 })), "n_head"),
        (channel(MoeSettings { experts: 0, ..moe }), "experts"),
        (channel(MoeSettings { experts: 20, ..moe }), "experts"),
        (channel(MoeSettings { top_k: 5, ..moe }), "top_k"),
        (channel(MoeSettings { balance: -1.0, ..moe }), "balance"),
    ] {
        let said = said(mixers);
        assert!(said.contains(key), "{said} does not name {key}");
    }
}
