//! The operations around WKV on every backend: outputs and gradients against scalar f64, by their formulas and by finite
//! differences; and that they leave alone what others hold.

use crate::support::{assert_close, tensor, values};
use burn::backend::Autodiff;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Int, Tensor, TensorData, TensorMetadata, TensorPrimitive};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::adam::{AdamStep, AdamUpdate};
use rwkv_core::ops::cross_entropy::cross_entropy;
use rwkv_core::ops::gate::gate;
use rwkv_core::ops::layer_norm::layer_norm;
use rwkv_core::ops::packed::{PackedMatrix, Packing, packed_linear};
use rwkv_core::ops::squared_relu::squared_relu;
use rwkv_core::ops::token_shift::token_shift;

pub(crate) const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const EPSILON: f64 = 1e-5;

/// Shapes `[B, T, C]`: one token, widths around a vector's and a task's edge, more rows than one task takes.
const SHAPES: [[usize; 3]; 5] = [[1, 1, 5], [2, 7, 16], [3, 50, 33], [1, 130, 48], [2, 1, 300]];

/// An operation in scalar f64: the inputs, flat, to the output, flat.
pub(crate) type Definition<'a> = &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>;

/// Numbers that `f32` holds exactly.
pub(crate) fn random(rng: &mut StdRng, n: usize, scale: f64) -> Vec<f64> {
    (0..n).map(|_| f64::from((scale * rng.random_range(-1.0..1.0)) as f32)).collect()
}

/// `output` and the gradients of `Σ weight·output` in the inputs, against the definition.
pub(crate) fn compare(
    what: &str,
    inputs: &[Vec<f64>],
    weight: &[f64],
    definition: Definition,
    got: (Vec<f64>, Vec<Vec<f64>>),
) {
    let (output, gradients) = got;
    assert_close(&format!("{what}: output"), &output, &definition(inputs), FORWARD);
    assert_eq!(gradients.len(), inputs.len());
    let mut moved = inputs.to_vec();
    for (which, gradient) in gradients.iter().enumerate() {
        let slopes: Vec<f64> = (0..inputs[which].len())
            .map(|i| {
                let (x, h) = (inputs[which][i], 1e-6);
                let mut at = |x: f64| {
                    moved[which][i] = x;
                    definition(&moved).iter().zip(weight).map(|(out, weight)| out * weight).sum::<f64>()
                };
                let slope = (at(x + h) - at(x - h)) / ((x + h) - (x - h));
                moved[which][i] = x;
                slope
            })
            .collect();
        assert_close(&format!("{what}: gradient of input {which}"), gradient, &slopes, GRADIENT);
    }
}

/// One to four blends together, of which a loss may leave some out.
fn token_shift_matches_f64<B: RwkvBackend>(device: &B::Device) {
    shift::<B, 3>([true; 3], &SHAPES, device);
    let few = &SHAPES[..2];
    shift::<B, 1>([true], few, device);
    shift::<B, 2>([true; 2], few, device);
    shift::<B, 3>([false, true, false], few, device);
    shift::<B, 4>([true; 4], few, device);
}

fn shift<B: RwkvBackend, const N: usize>(used: [bool; N], shapes: &[[usize; 3]], device: &B::Device) {
    let at = &(device, DType::F32);
    for &[batch, time, width] in shapes {
        let mut rng = StdRng::seed_from_u64(1);
        let n = batch * time * width;
        let mut inputs = vec![random(&mut rng, n, 2.0), random(&mut rng, batch * width, 2.0)];
        inputs.extend((0..N).map(|_| random(&mut rng, width, 1.5)));
        let weights = used.map(|used| random(&mut rng, n, if used { 1.0 } else { 0.0 }));
        let x = tensor::<Autodiff<B>, 3>(&inputs[0], [batch, time, width], at).require_grad();
        let last = tensor::<Autodiff<B>, 2>(&inputs[1], [batch, width], at).require_grad();
        let mut given = inputs[2..].iter();
        let mu: [_; N] = std::array::from_fn(|_| {
            tensor::<Autodiff<B>, 3>(given.next().expect("as many"), [1, 1, width], at).require_grad()
        });
        let outputs = token_shift(x.clone(), last.clone(), mu.clone());
        let terms = outputs.iter().zip(&weights).zip(used).filter(|(_, used)| *used);
        let loss = terms.map(|((out, weight), _)| (out.clone() * tensor(weight, [batch, time, width], at)).sum());
        let grads = loss.reduce(|a, b| a + b).expect("one is used").backward();
        let mut gradients = vec![values(x.grad(&grads).expect("tracked")), values(last.grad(&grads).expect("tracked"))];
        gradients.extend(mu.into_iter().zip(used).map(|(mu, used)| match (mu.grad(&grads), used) {
            (Some(gradient), true) => values(gradient),
            (None, false) => vec![0.0; width],
            (found, _) => panic!("a gradient where none belongs, or none where one does: {found:?}"),
        }));
        let definition = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let blend = |mu: &Vec<f64>, i: usize| {
                let (row, c) = (i / width, i % width);
                let previous = if row % time == 0 { inputs[1][row / time * width + c] } else { inputs[0][i - width] };
                mu[c] * inputs[0][i] + (1.0 - mu[c]) * previous
            };
            inputs[2..].iter().flat_map(|mu| (0..n).map(move |i| blend(mu, i))).collect()
        };
        let name = format!("token_shift {used:?} {:?}", [batch, time, width]);
        let outputs = outputs.into_iter().flat_map(values).collect();
        compare(&name, &inputs, &weights.concat(), &definition, (outputs, gradients));
    }
}

fn layer_norm_matches_f64<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    for [batch, time, width] in SHAPES {
        let mut rng = StdRng::seed_from_u64(2);
        let n = batch * time * width;
        // Off centre: a variance by the difference of two means would cancel.
        let x: Vec<f64> = random(&mut rng, n, 1.0).into_iter().map(|x| x + 8.0).collect();
        let inputs = [x, random(&mut rng, width, 2.0), random(&mut rng, width, 1.0)];
        let weight = random(&mut rng, n, 1.0);
        let x = tensor::<Autodiff<B>, 3>(&inputs[0], [batch, time, width], at).require_grad();
        let scale = tensor::<Autodiff<B>, 1>(&inputs[1], [width], at).require_grad();
        let bias = tensor::<Autodiff<B>, 1>(&inputs[2], [width], at).require_grad();
        let out = layer_norm(x.clone(), scale.clone(), bias.clone(), EPSILON);
        let grads = (out.clone() * tensor(&weight, [batch, time, width], at)).sum().backward();
        let gradients = vec![
            values(x.grad(&grads).expect("tracked")),
            values(scale.grad(&grads).expect("tracked")),
            values(bias.grad(&grads).expect("tracked")),
        ];
        let definition = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let mean = row.iter().sum::<f64>() / width as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                let inverse = 1.0 / (variance + EPSILON).sqrt();
                (0..width).map(|c| (row[c] - mean) * inverse * inputs[1][c] + inputs[2][c]).collect()
            };
            inputs[0].chunks(width).flat_map(row).collect()
        };
        let name = format!("layer_norm {:?}", [batch, time, width]);
        compare(&name, &inputs, &weight, &definition, (values(out), gradients));
    }
}

fn gate_matches_f64<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    for (shape, scale) in SHAPES.into_iter().zip([1.0, 5.0, 20.0, 100.0, 1000.0]) {
        let mut rng = StdRng::seed_from_u64(3);
        let n = shape.iter().product();
        let inputs = [random(&mut rng, n, scale), random(&mut rng, n, 2.0)];
        let weight = random(&mut rng, n, 1.0);
        let r = tensor::<Autodiff<B>, 3>(&inputs[0], shape, at).require_grad();
        let y = tensor::<Autodiff<B>, 3>(&inputs[1], shape, at).require_grad();
        let out = gate(r.clone(), y.clone());
        let grads = (out.clone() * tensor(&weight, shape, at)).sum().backward();
        let gradients = vec![values(r.grad(&grads).expect("tracked")), values(y.grad(&grads).expect("tracked"))];
        let definition = |inputs: &[Vec<f64>]| -> Vec<f64> {
            inputs[0].iter().zip(&inputs[1]).map(|(r, y)| y / (1.0 + (-r).exp())).collect()
        };
        compare(&format!("gate {shape:?} ±{scale}"), &inputs, &weight, &definition, (values(out), gradients));
    }
}

fn squared_relu_matches_f64<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    for shape in SHAPES {
        let mut rng = StdRng::seed_from_u64(4);
        let n = shape.iter().product();
        let inputs = [random(&mut rng, n, 3.0)];
        let weight = random(&mut rng, n, 1.0);
        let x = tensor::<Autodiff<B>, 3>(&inputs[0], shape, at).require_grad();
        let out = squared_relu(x.clone());
        let grads = (out.clone() * tensor(&weight, shape, at)).sum().backward();
        let gradients = vec![values(x.grad(&grads).expect("tracked"))];
        let definition = |inputs: &[Vec<f64>]| inputs[0].iter().map(|x| x.max(0.0).powi(2)).collect();
        compare(&format!("squared_relu {shape:?}"), &inputs, &weight, &definition, (values(out), gradients));
    }
}

fn cross_entropy_matches_f64<B: RwkvBackend>(device: &B::Device) {
    const L2_WRAP: f64 = 0.125; // large enough to show beside the softmax
    let at = &(device, DType::F32);
    for ([count, vocab], scale) in
        [[1, 2], [5, 16], [40, 65], [3, 1000], [9, 33]].into_iter().zip([1.0, 3.0, 8.0, 30.0, 300.0])
    {
        let mut rng = StdRng::seed_from_u64(5);
        let inputs = [random(&mut rng, count * vocab, scale)];
        let targets: Vec<usize> = (0..count).map(|_| rng.random_range(0..vocab)).collect();
        let weight: Vec<f64> = random(&mut rng, count, 1.0);
        let ids: Vec<i64> = targets.iter().map(|&id| id as i64).collect();
        let ids = Tensor::<Autodiff<B>, 1, Int>::from_data(TensorData::new(ids, [count]), device);
        let loss = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let row = |(row, &target): (&[f64], &usize)| {
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() - row[target]
            };
            inputs[0].chunks(vocab).zip(&targets).map(row).collect()
        };
        let wrapped = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let half_square =
                |row: &[f64]| 0.5 * L2_WRAP * row.iter().copied().fold(f64::NEG_INFINITY, f64::max).powi(2);
            loss(inputs).into_iter().zip(inputs[0].chunks(vocab)).map(|(loss, row)| loss + half_square(row)).collect()
        };
        let run = |l2_wrap: f64| {
            let logits = tensor::<Autodiff<B>, 2>(&inputs[0], [count, vocab], at).require_grad();
            let out = cross_entropy(logits.clone(), ids.clone(), l2_wrap as f32);
            let grads = (out.clone() * tensor(&weight, [count], at)).sum().backward();
            (values(out), vec![values(logits.grad(&grads).expect("tracked"))])
        };
        let name = format!("cross_entropy {:?} ±{scale}", [count, vocab]);
        compare(&name, &inputs, &weight, &loss, run(0.0));
        // L2Wrap changes the gradient and not the value.
        let (value, gradients) = run(L2_WRAP);
        assert_close(&format!("{name}, L2Wrap: value"), &value, &loss(&inputs), FORWARD);
        compare(&format!("{name}, L2Wrap"), &inputs, &weight, &wrapped, (wrapped(&inputs), gradients));
    }
}

/// Something that is not a number in the input is none in the output, and stays in its row.
fn nan_reaches_the_output<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    let mut x = vec![0.5; 2 * 20];
    x[3] = f64::NAN;
    let rows = || tensor::<B, 2>(&x, [2, 20], at);
    let ones = || tensor::<B, 1>(&[1.0; 20], [20], at);
    let targets = Tensor::<B, 1, Int>::from_data([0, 1], device);
    let checks = [
        ("gate", values(gate(rows(), rows()))[3]),
        ("squared_relu", values(squared_relu(rows()))[3]),
        ("layer_norm", values(layer_norm(rows(), ones(), ones(), EPSILON))[0]),
        ("token_shift", {
            let [out] = token_shift(rows().unsqueeze_dim(0), ones().unsqueeze(), [ones().unsqueeze()]);
            values(out)[3]
        }),
        ("cross_entropy", values(cross_entropy(rows(), targets.clone(), 0.0))[0]),
    ];
    for (name, value) in checks {
        assert!(value.is_nan(), "{name}: {value}");
    }
    assert!(values(cross_entropy(rows(), targets, 0.0))[1].is_finite());
    // Nine rows of an odd width: the kernels fill vectors up with rows and columns that must not matter.
    for packing in [Packing::F32, Packing::Bf16, Packing::Bf16Products, Packing::F16, Packing::Int8] {
        let weight = PackedMatrix::pack(packing, 35, 21, |_, row| row.fill(0.5));
        for broken in [f64::NAN, f64::INFINITY] {
            let mut x = vec![0.5; 9 * 21];
            x[8 * 21 + 20] = broken;
            let out = values(packed_linear(tensor::<B, 2>(&x, [9, 21], at), &weight));
            let (whole, row) = out.split_at(8 * 35);
            assert!(whole.iter().all(|x| (x - 5.25).abs() < 1e-2), "{packing:?}: {broken} leaves its row");
            assert!(row.iter().all(|x| !x.is_finite()), "{packing:?}: {broken} is lost");
        }
    }
}

/// Kernels write over an input that nobody else has; the results are those of one that others have, which keeps its numbers.
fn what_others_hold_keeps_its_numbers<B: RwkvBackend>(device: &B::Device) {
    type Operation<'a, B> = (&'a str, &'a dyn Fn([FloatTensor<B>; 3]) -> Vec<FloatTensor<B>>);
    let (at, mut rng) = (&(device, DType::F32), StdRng::seed_from_u64(9));
    let [rows, width] = [150, 133];
    let numbers = [(); 3].map(|()| random(&mut rng, rows * width, 2.0));
    let float = |x: Tensor<B, 1>| x.into_primitive().tensor();
    let per_row = || float(tensor::<B, 1>(&numbers[0][..rows], [rows], at));
    let per_column = || float(tensor::<B, 1>(&numbers[1][..width], [width], at));
    let targets = || Tensor::<B, 1, Int>::from_data(TensorData::new(vec![7; rows], [rows]), device).into_primitive();
    let entropy = |logits, lse, grad| B::cross_entropy_backward(logits, targets(), lse, grad, 0.1);
    let (lr, max_norm, weight_decay) = (1e-2, 0.5, 0.1);
    let step = AdamStep { lr, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, max_norm, weight_decay, updates: 3 };
    let squares = |x: FloatTensor<B>| B::float_mul(x.clone(), x);
    let operations: [Operation<'_, B>; 8] = [
        ("gate", &|[r, y, _]| vec![B::gate_forward(r, y)]),
        ("gate of itself", &|[r, ..]| vec![B::gate_forward(r.clone(), r)]),
        ("gate, backward", &|[r, y, grad]| B::gate_backward(r, y, grad).into()),
        ("squared ReLU", &|[x, ..]| vec![B::squared_relu_forward(x)]),
        ("squared ReLU, backward", &|[x, grad, _]| vec![B::squared_relu_backward(x, grad)]),
        ("layer norm, backward", &|[x, grad, _]| B::layer_norm_backward(x, per_column(), grad, EPSILON).into()),
        ("Adam", &|[param, grad, first]| {
            let (second, norm) = (squares(first.clone()), tensor::<B, 1>(&[1.0], [1], at));
            let update = AdamUpdate { param, grad, first, second, step };
            B::adam(vec![update], float(norm)).into_iter().flatten().collect()
        }),
        ("cross-entropy, backward", &|[logits, ..]| vec![entropy(logits, per_row(), per_row())]),
    ];
    let bits = |x: FloatTensor<B>| {
        let x = TensorPrimitive::Float(x);
        // The parameters' gradients have one dimension, all else has two.
        let data = match x.shape().num_dims() {
            1 => Tensor::<B, 1>::from_primitive(x).into_data(),
            _ => Tensor::<B, 2>::from_primitive(x).into_data(),
        };
        data.to_vec::<f32>().expect("f32").into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for (name, operation) in operations {
        let alone = || {
            let tensors = numbers.each_ref().map(|numbers| tensor::<B, 2>(numbers, [rows, width], at));
            tensors.map(|x| x.into_primitive().tensor())
        };
        let in_place: Vec<_> = operation(alone()).into_iter().map(bits).collect();
        let (held, before) = (alone(), alone().map(bits));
        let beside: Vec<_> = operation(held.clone()).into_iter().map(bits).collect();
        assert_eq!(in_place, beside, "{name}");
        assert_eq!(held.map(bits), before, "{name}: the inputs");
        assert!(in_place.iter().all(|out| !before.contains(out)), "{name} does something");
    }
}

on_every_backend!(
    token_shift_matches_f64,
    what_others_hold_keeps_its_numbers,
    layer_norm_matches_f64,
    gate_matches_f64,
    squared_relu_matches_f64,
    cross_entropy_matches_f64,
    nan_reaches_the_output,
);
