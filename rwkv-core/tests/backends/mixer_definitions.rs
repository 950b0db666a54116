//! Other sequence mixers against their formulas, as loops in `f64` straight from the papers.

use crate::support::{assert_close, values};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{
    AftConvSettings, AftFullSettings, AftLocalSettings, AftSimpleSettings, GmlpSettings, Mixers, MlpMixerSettings,
    Rwkv, SequenceMixerKind,
};
use rwkv_core::ops::RwkvBackend;
use std::collections::HashMap;

const BATCH: usize = 2;
const TIME: usize = 11;
const N_EMBD: usize = 16;
/// Below the length of the text, so that the last positions are taken as one.
const CTX_LEN: usize = 7;
const WINDOW: usize = 3;
const RANK: usize = 5;
const N_HEAD: usize = 3;

/// The four Attention Free Transformers.
fn afts() -> [SequenceMixerKind; 4] {
    [
        SequenceMixerKind::AftSimple(AftSimpleSettings {}),
        SequenceMixerKind::AftFull(AftFullSettings { ctx_len: CTX_LEN, rank: RANK }),
        SequenceMixerKind::AftLocal(AftLocalSettings { ctx_len: CTX_LEN, rank: RANK, window: WINDOW }),
        SequenceMixerKind::AftConv(AftConvSettings { n_head: N_HEAD, window: WINDOW }),
    ]
}

/// Adds noise to every parameter.
struct Stir(StdRng);

impl<B: Backend> ModuleMapper<B> for Stir {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let noise: Vec<f32> = (0..shape.num_elements()).map(|_| self.0.random_range(-0.7f32..0.7)).collect();
            let asks = tensor.is_require_grad();
            let noise = Tensor::from_data(TensorData::new(noise, shape), &tensor.device());
            (tensor.set_require_grad(false) + noise).set_require_grad(asks)
        })
    }
}

fn model<B: Backend>(sequence: SequenceMixerKind, dim_att: usize, device: &B::Device) -> Rwkv<B> {
    let mixers = Mixers { sequence, ..Mixers::default() };
    let config = RwkvConfig { dim_att, mixers, ..RwkvConfig::new(9, 1, N_EMBD) };
    Rwkv::new(&config, 5, device).map(&mut Stir(StdRng::seed_from_u64(3)))
}

/// A tensor's values and how to find them.
#[derive(Debug, Clone)]
struct Table(Vec<f64>, Vec<usize>);

impl Table {
    fn of<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        let shape = tensor.dims().to_vec();
        Self(values(tensor), shape)
    }

    fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.1.len());
        self.0[index.iter().zip(&self.1).fold(0, |place, (i, size)| place * size + i)]
    }
}

/// The sequence mixer's parameters by their local names; projections are `[in, out]`.
fn parameters<B: Backend>(model: &Rwkv<B>) -> HashMap<String, Table> {
    struct Find(HashMap<ParamId, String>, HashMap<String, Table>);
    impl<B: Backend> ModuleVisitor<B> for Find {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if let Some(name) = self.0[&param.id].strip_prefix("blocks.0.att.") {
                self.1.insert(name.to_owned(), Table::of(param.val()));
            }
        }
    }
    let names = model.named_parameters().into_iter().map(|(name, id)| (id, name)).collect();
    let mut find = Find(names, HashMap::new());
    model.visit(&mut find);
    find.1
}

/// Random numbers within `±scale`, `[B, T, D]`.
fn random<B: Backend>(seed: u64, time: usize, size: usize, scale: f32, device: &B::Device) -> Tensor<B, 3> {
    let mut rng = StdRng::seed_from_u64(seed);
    let numbers: Vec<f32> = (0..BATCH * time * size).map(|_| rng.random_range(-scale..scale)).collect();
    Tensor::from_data(TensorData::new(numbers, [BATCH, time, size]), device)
}

/// The mixer's output over `x` in these pieces, with these keys in the place of its own, and all intermediates.
fn run<B: RwkvBackend>(
    model: &Rwkv<B>,
    x: &Tensor<B, 3>,
    keys: Option<&Tensor<B, 3>>,
    pieces: &[usize],
) -> (Tensor<B, 3>, HashMap<String, Tensor<B, 3>>) {
    let state = model.zero_state(BATCH).layers.remove(0);
    let (mut last, mut memory, mut start) = (state.att_x, state.memory, 0);
    let (mut outputs, mut seen) = (Vec::new(), HashMap::<String, Vec<Tensor<B, 3>>>::new());
    for &length in pieces {
        let mut at = |name: &str, y: Tensor<B, 3>| {
            let y = match (name, keys) {
                ("key", Some(keys)) => keys.clone().narrow(1, start, length),
                _ => y,
            };
            seen.entry(name.to_owned()).or_default().push(y.clone());
            y
        };
        let piece = x.clone().narrow(1, start, length);
        let (y, next, after) = model.blocks[0].att.forward(piece, last, memory, None, &mut at);
        outputs.push(y);
        (last, memory, start) = (next, after, start + length);
    }
    let seen = seen.into_iter().map(|(name, pieces)| (name, Tensor::cat(pieces, 1))).collect();
    (Tensor::cat(outputs, 1), seen)
}

/// A number for every row, token and channel.
fn everywhere(time: usize, size: usize, f: impl Fn(usize, usize, usize) -> f64) -> Table {
    let places = (0..BATCH).flat_map(|b| (0..time).flat_map(move |t| (0..size).map(move |c| (b, t, c))));
    Table(places.map(|(b, t, c)| f(b, t, c)).collect(), vec![BATCH, time, size])
}

/// `W·x`.
fn projected(weight: &Table, x: &Table) -> Table {
    let (inputs, out) = (weight.1[0], weight.1[1]);
    everywhere(x.1[1], out, |b, t, o| (0..inputs).map(|i| weight.at(&[i, o]) * x.at(&[b, t, i])).sum())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x·Φ(x)`, from `erf(z) = 2/√π·e^(−z²)·Σ 2ⁿ·z^(2n+1)/(1·3·…·(2n+1))`, whose terms have one sign.
fn gelu(x: f64) -> f64 {
    let z = x / 2f64.sqrt();
    let (mut term, mut sum) = (z, z);
    for n in 1..400 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    let erf = if z.abs() > 6.0 { z.signum() } else { 2.0 / std::f64::consts::PI.sqrt() * (-z * z).exp() * sum };
    0.5 * x * (1.0 + erf)
}

/// The bias `w_ts` of a channel, by the mixer's own parameters.
fn bias(kind: &SequenceMixerKind, parameters: &HashMap<String, Table>, t: usize, s: usize, channel: usize) -> f64 {
    let pair = || {
        let (t, s) = (t.min(CTX_LEN - 1), s.min(CTX_LEN - 1));
        let factor = |name: &str, at: usize, r: usize| parameters[name].at(&[0, at, r]);
        (0..RANK).map(|r| factor("position_query", t, r) * factor("position_key", s, r)).sum()
    };
    match kind {
        SequenceMixerKind::AftSimple(_) => 0.0,
        SequenceMixerKind::AftFull(_) => pair(),
        SequenceMixerKind::AftLocal(_) if t - s < WINDOW => pair(),
        SequenceMixerKind::AftConv(_) if t - s < WINDOW => parameters["position"].at(&[0, channel / 8, t - s]),
        SequenceMixerKind::AftLocal(_) | SequenceMixerKind::AftConv(_) => 0.0,
        other => panic!("{} is no AFT", other.name()),
    }
}

/// Shares of the tokens in an average, `e^(k_s + w_ts) / Σ`.
fn shares(kind: &SequenceMixerKind, parameters: &HashMap<String, Table>, k: &Table, at: [usize; 3]) -> Vec<f64> {
    let [b, t, c] = at;
    let weights: Vec<f64> = (0..=t).map(|s| (k.at(&[b, s, c]) + bias(kind, parameters, t, s, c)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Outputs and averages of all four, in one pass and in pieces.
fn aft_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    for kind in afts() {
        let model = model::<B>(kind, 8 * N_HEAD, device);
        let parameters = parameters(&model);
        let long = if matches!(kind, SequenceMixerKind::AftConv(_)) { 300 } else { TIME };
        for (scale, time) in [(1.0, TIME), (20.0, TIME), (3.0, long)] {
            let x = random::<B>(1, time, N_EMBD, 1.0, device);
            let keys = random::<B>(2, time, 8 * N_HEAD, scale, device);
            for pieces in [vec![time], vec![4, 1, time - 5]] {
                let (out, seen) = run(&model, &x, Some(&keys), &pieces);
                let x = Table::of(x.clone());
                let seen: HashMap<_, _> = seen.into_iter().map(|(name, y)| (name, Table::of(y))).collect();
                let (q, k, v) = (&seen["query"], &seen["key"], &seen["value"]);
                for (name, y) in [("query", q), ("value", v)] {
                    let want = projected(&parameters[&format!("{name}.weight")], &x);
                    assert_close(name, &y.0, &want.0, 1e-5);
                }
                let average = everywhere(time, 8 * N_HEAD, |b, t, c| {
                    let shares = shares(&kind, &parameters, k, [b, t, c]);
                    shares.iter().enumerate().map(|(s, share)| share * v.at(&[b, s, c])).sum()
                });
                assert_close(kind.name(), &seen["average"].0, &average.0, 1e-5);
                let gated = everywhere(time, 8 * N_HEAD, |b, t, c| sigmoid(q.at(&[b, t, c])) * average.at(&[b, t, c]));
                let want = projected(&parameters["output.weight"], &gated);
                assert_close(kind.name(), &values(out), &want.0, 1e-5);
            }
        }
    }
}

/// With keys in ±40: of a loss `Σ d ⊙ y`, `∂/∂k_s = Σ_t d_t·p_ts·(v_s − y_t)` and `∂/∂v_s = Σ_t d_t·p_ts`.
fn gradients_of_aft_are_exact_at_large_keys<B: RwkvBackend>(device: &B::Device) {
    for kind in afts() {
        let model = model::<Autodiff<B>>(kind, 8 * N_HEAD, device);
        let parameters = parameters(&model);
        let x = random::<Autodiff<B>>(1, TIME, N_EMBD, 1.0, device);
        let keys = random::<Autodiff<B>>(2, TIME, 8 * N_HEAD, 40.0, device).require_grad();
        let direction = random::<Autodiff<B>>(4, TIME, 8 * N_HEAD, 1.0, device);
        for pieces in [vec![TIME], vec![4, 1, TIME - 5]] {
            let (_, seen) = run(&model, &x, Some(&keys), &pieces);
            let gradients = (seen["average"].clone() * direction.clone()).sum().backward();
            let (k, v, d) = (Table::of(keys.clone()), Table::of(seen["value"].clone()), Table::of(direction.clone()));
            let shares = |b, t, c| shares(&kind, &parameters, &k, [b, t, c]);
            let y = everywhere(TIME, 8 * N_HEAD, |b, t, c| {
                shares(b, t, c).iter().enumerate().map(|(s, share)| share * v.at(&[b, s, c])).sum()
            });
            let want = everywhere(TIME, 8 * N_HEAD, |b, s, c| {
                let of = |t| d.at(&[b, t, c]) * shares(b, t, c)[s] * (v.at(&[b, s, c]) - y.at(&[b, t, c]));
                (s..TIME).map(of).sum()
            });
            let got = values(keys.grad(&gradients).expect("tracked"));
            assert_close(kind.name(), &got, &want.0, 1e-4);
            // The values' gradient by that of their projection, x ⊗ ∂/∂v.
            let of_values =
                everywhere(TIME, 8 * N_HEAD, |b, s, c| (s..TIME).map(|t| d.at(&[b, t, c]) * shares(b, t, c)[s]).sum());
            let x = Table::of(x.clone());
            let want: Vec<f64> = (0..N_EMBD)
                .flat_map(|i| (0..8 * N_HEAD).map(move |c| (i, c)))
                .map(|(i, c)| {
                    let tokens = (0..BATCH).flat_map(|b| (0..TIME).map(move |s| (b, s)));
                    tokens.map(|(b, s)| x.at(&[b, s, i]) * of_values.at(&[b, s, c])).sum()
                })
                .collect();
            struct Value<'a, B: RwkvBackend>(
                ParamId,
                &'a <Autodiff<B> as burn::tensor::backend::AutodiffBackend>::Gradients,
                Vec<f64>,
            );
            impl<B: RwkvBackend> ModuleVisitor<Autodiff<B>> for Value<'_, B> {
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
                    if param.id == self.0 {
                        self.2 = values(param.val().grad(self.1).expect("tracked"));
                    }
                }
            }
            let names = model.named_parameters();
            let id = names.iter().find(|(name, _)| name == "blocks.0.att.value.weight").expect("there").1;
            let mut value = Value::<B>(id, &gradients, Vec::new());
            model.visit(&mut value);
            assert_close(kind.name(), &value.2, &want, 1e-4);
        }
    }
}

/// Whatever the keys are, averages are averages and gradients finite.
fn aft_survives_any_keys<B: RwkvBackend>(device: &B::Device) {
    for kind in afts() {
        let model = model::<Autodiff<B>>(kind, 8 * N_HEAD, device);
        let x = random::<Autodiff<B>>(1, TIME, N_EMBD, 1.0, device);
        let keys = random::<Autodiff<B>>(2, TIME, 8 * N_HEAD, 1000.0, device).require_grad();
        for pieces in [vec![TIME], vec![1; TIME]] {
            let (_, seen) = run(&model, &x, Some(&keys), &pieces);
            let largest = |x: &Tensor<Autodiff<B>, 3>| values(x.clone().abs().max())[0];
            let (average, value) = (&seen["average"], &seen["value"]);
            assert!(largest(average) <= 1.0001 * largest(value), "{}", kind.name());
            let gradients = average.clone().sum().backward();
            let gradient = values(keys.grad(&gradients).expect("tracked"));
            assert!(gradient.iter().all(|x| x.is_finite()), "{}", kind.name());
        }
    }
}

/// Spatial gating.
fn gmlp_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    let a = 24;
    let model = model::<B>(SequenceMixerKind::Gmlp(GmlpSettings { ctx_len: CTX_LEN }), a, device);
    let parameters = parameters(&model);
    let x = random::<B>(1, TIME, N_EMBD, 1.0, device);
    let z = projected(&parameters["input.weight"], &Table::of(x.clone()));
    let half = |b: usize, t: usize, c: usize| gelu(z.at(&[b, t, c]));
    let normal = everywhere(TIME, a, |b, t, c| {
        let all: Vec<f64> = (a..2 * a).map(|c| half(b, t, c)).collect();
        let mean = all.iter().sum::<f64>() / a as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / a as f64;
        (all[c] - mean) / (variance + 1e-5).sqrt() * parameters["norm_scale"].at(&[c])
            + parameters["norm_bias"].at(&[c])
    });
    let gated = everywhere(TIME, a, |b, t, c| {
        let place = |t: usize| t.min(CTX_LEN - 1);
        let weight = |s| parameters["spatial"].at(&[0, place(t), place(s)]);
        let sum: f64 = (0..=t).map(|s| weight(s) * normal.at(&[b, s, c])).sum();
        half(b, t, c) * (sum + parameters["spatial_bias"].at(&[0, place(t), 0]))
    });
    let want = projected(&parameters["output.weight"], &gated);
    for pieces in [vec![TIME], vec![4, 1, TIME - 5], vec![5, 6]] {
        assert_close("gmlp", &values(run(&model, &x, None, &pieces).0), &want.0, 1e-5);
    }
}

/// Token mixing, with projections around it and without.
fn mlp_mixer_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    for (projections, a) in [(true, 24), (false, N_EMBD)] {
        let kind = SequenceMixerKind::MlpMixer(MlpMixerSettings { ctx_len: CTX_LEN, projections });
        let model = model::<B>(kind, a, device);
        let parameters = parameters(&model);
        let x = random::<B>(1, TIME, N_EMBD, 1.0, device);
        let v = match projections {
            true => projected(&parameters["value.weight"], &Table::of(x.clone())),
            false => Table::of(x.clone()),
        };
        let layer = |name: &str, x: &Table| {
            let (weight, bias) = (&parameters[name], &parameters[&format!("{name}_bias")]);
            let place = |t: usize| t.min(CTX_LEN - 1);
            everywhere(TIME, a, |b, t, c| {
                let sum: f64 = (0..=t).map(|s| weight.at(&[0, place(t), place(s)]) * x.at(&[b, s, c])).sum();
                sum + bias.at(&[0, place(t), 0])
            })
        };
        let mut h = layer("mix_in", &v);
        h.0.iter_mut().for_each(|x| *x = gelu(*x));
        let y = layer("mix_out", &h);
        let want = if projections { projected(&parameters["output.weight"], &y) } else { y };
        for pieces in [vec![TIME], vec![4, 1, TIME - 5], vec![5, 6]] {
            assert_close("mlp-mixer", &values(run(&model, &x, None, &pieces).0), &want.0, 1e-5);
        }
    }
}

/// A file says that there are no projections; without them another width is refused.
fn an_mlp_mixer_without_projections_has_the_models_width<B: RwkvBackend>(device: &B::Device) {
    let kind = SequenceMixerKind::MlpMixer(MlpMixerSettings { ctx_len: CTX_LEN, projections: false });
    let model = model::<B>(kind, N_EMBD, device);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mixer.safetensors");
    checkpoint::save(&model, &path).expect("written");
    let copy: Rwkv<B> = checkpoint::load(&path, device).expect("read");
    assert_eq!((copy.fingerprint(), copy.config()), (model.fingerprint(), model.config()));
    assert_eq!(copy.num_params_lazy(), model.config().num_params());
    let said = RwkvConfig { dim_att: 24, ..model.config() }.validate().expect_err("refused").to_string();
    assert!(said.contains("dim_att") && said.contains("24"), "{said}");
}

/// Settings that make no sense are named.
fn settings_of_mixers_are_checked<B: RwkvBackend>(_device: &B::Device) {
    let full = AftFullSettings::default();
    let local = AftLocalSettings::default();
    let conv = AftConvSettings::default();
    for (sequence, key) in [
        (SequenceMixerKind::AftFull(AftFullSettings { ctx_len: 0, ..full }), "ctx_len"),
        (SequenceMixerKind::AftFull(AftFullSettings { rank: 0, ..full }), "rank"),
        (SequenceMixerKind::AftLocal(AftLocalSettings { window: 0, ..local }), "window"),
        (SequenceMixerKind::AftConv(AftConvSettings { window: 0, ..conv }), "window"),
        (SequenceMixerKind::AftConv(AftConvSettings { n_head: 5, ..conv }), "n_head"),
        (SequenceMixerKind::Gmlp(GmlpSettings { ctx_len: 0 }), "ctx_len"),
        (SequenceMixerKind::MlpMixer(MlpMixerSettings { ctx_len: 0, projections: true }), "ctx_len"),
    ] {
        let mixers = Mixers { sequence, ..Mixers::default() };
        let config = RwkvConfig { mixers, ..RwkvConfig::new(9, 1, N_EMBD) };
        let said = config.validate().expect_err("refused").to_string();
        assert!(said.contains(key), "{said}");
    }
}

/// AFT-conv remembers as much after a long text as before it.
fn aft_conv_and_simple_have_a_memory_of_fixed_size<B: RwkvBackend>(device: &B::Device) {
    for (kind, rows) in [(afts()[0], 3), (afts()[3], 3 + 2 * WINDOW)] {
        let model = model::<B>(kind, 24, device);
        for length in [1, 300] {
            let tokens = Tensor::from_data(TensorData::new(vec![1; length], [1, length]), device);
            let state = model.read(tokens, model.zero_state(1));
            assert_eq!(state.layers[0].memory.dims(), [1, rows, 24]);
        }
    }
}

on_every_backend!(
    aft_is_its_formula,
    gradients_of_aft_are_exact_at_large_keys,
    aft_survives_any_keys,
    gmlp_is_its_formula,
    mlp_mixer_is_its_formula,
    an_mlp_mixer_without_projections_has_the_models_width,
    settings_of_mixers_are_checked,
    aft_conv_and_simple_have_a_memory_of_fixed_size,
);
