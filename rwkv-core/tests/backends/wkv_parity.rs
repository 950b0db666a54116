//! WKV on every backend: outputs, final states and all five gradients against f64 and against the plain-op definition.

use crate::support::oracle::{Case, Range};
use crate::support::{assert_close, say, tensor, values};
use burn::backend::Autodiff;
use burn::tensor::{DType, Tensor};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::wkv::{definition, wkv};

const RANGES: [Range; 3] = [Range::Unit, Range::Large, Range::Extreme];
/// Two batch rows and more channels than one CPU block, neither a multiple of anything.
const LENGTHS: [usize; 5] = [1, 2, 63, 100, 1000];

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

type Wkv<B> = fn(Tensor<B, 1>, Tensor<B, 1>, Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>);

/// What one implementation says of one case.
struct Run {
    y: Vec<f64>,
    state: Vec<f64>, // (A, B) relative to the oracle's exponents, [B, 2, C]
    gradients: [Vec<f64>; 5],
}

const NAMES: [&str; 5] = ["time_decay", "time_first", "k", "v", "state"];

fn run<B: RwkvBackend>(case: &Case, exponents: &[f64], device: &B::Device) -> Run {
    run_as::<B>(case, exponents, device, wkv, DType::F32)
}

fn run_as<B: RwkvBackend>(
    case: &Case,
    exponents: &[f64],
    device: &B::Device,
    implementation: Wkv<Autodiff<B>>,
    dtype: DType,
) -> Run {
    let (b, t, c) = (case.batch, case.time, case.channels);
    let device = &(device, dtype);
    let decay = tensor::<Autodiff<B>, 1>(&case.time_decay, [c], device).require_grad();
    let first = tensor::<Autodiff<B>, 1>(&case.time_first, [c], device).require_grad();
    let k = tensor::<Autodiff<B>, 3>(&case.k, [b, t, c], device).require_grad();
    let v = tensor::<Autodiff<B>, 3>(&case.v, [b, t, c], device).require_grad();
    let state = tensor::<Autodiff<B>, 3>(&case.state, [b, 3, c], device).require_grad();
    let (y, last) = implementation(decay.clone(), first.clone(), k.clone(), v.clone(), state.clone());

    // The loss weighs the final state as well, by a·e^p and b·e^p: the split into a and p is not unique.
    let exponents = tensor::<Autodiff<B>, 3>(exponents, [b, 1, c], device);
    let scale = (last.clone().narrow(1, 2, 1) - exponents).exp();
    let state_values = last.narrow(1, 0, 2) * scale;
    let loss = (y.clone() * tensor(&case.weight_y, [b, t, c], device)).sum()
        + (state_values.clone() * tensor(&case.weight_s, [b, 2, c], device)).sum();
    let grads = loss.backward();
    Run {
        y: values(y),
        state: values(state_values),
        gradients: [
            values(decay.grad(&grads).expect("a gradient of time_decay")),
            values(first.grad(&grads).expect("a gradient of time_first")),
            values(k.grad(&grads).expect("a gradient of k")),
            values(v.grad(&grads).expect("a gradient of v")),
            values(state.grad(&grads).expect("a gradient of the state")),
        ],
    }
}

fn cases() -> impl Iterator<Item = (String, Case)> {
    RANGES.into_iter().flat_map(|range| {
        LENGTHS.into_iter().map(move |time| {
            let channels = if time == 1000 { 19 } else { 83 };
            (format!("{range:?}, T = {time}"), Case::random(time as u64, [2, time, channels], range))
        })
    })
}

/// The case with the decay that this backend computes in f32.
///
/// A token's weight after n more tokens is `e^{nw}`, so the last digit of `w = −exp(time_decay)` is multiplied by n: at
/// keys of ±1000 one unit of it moves the result by more than the tolerance. How exact a backend's `exp` is, is not what
/// these tests ask.
fn as_seen_by<B: RwkvBackend>(case: &Case, device: &B::Device) -> Case {
    let w = tensor::<B, 1>(&case.time_decay, [case.channels], &(device, DType::F32)).exp();
    Case { time_decay: values(w).into_iter().map(f64::ln).collect(), ..case.clone() }
}

/// The kernels against f64 and finite differences.
fn kernels_match_f64<B: RwkvBackend>(device: &B::Device) {
    for (name, case) in cases() {
        let seen = as_seen_by::<B>(&case, device);
        let (exponents, state) = seen.final_state();
        let want = Run { y: seen.outputs(), state, gradients: seen.gradients() };
        compare(&name, &run::<B>(&case, &exponents, device), &want);
    }
}

/// The kernels against the plain-op definition in f64, differentiated by Burn.
#[cfg(feature = "flex")]
fn kernels_match_the_definition<B: RwkvBackend>(device: &B::Device) {
    use burn::backend::Flex;
    for (name, case) in cases() {
        let seen = as_seen_by::<B>(&case, device);
        let exponents = seen.final_state().0;
        let got = run::<B>(&case, &exponents, device);
        let want = run_as::<Flex>(&seen, &exponents, &Default::default(), definition::wkv, DType::F64);
        compare(&name, &got, &want);
    }
}

fn compare(name: &str, got: &Run, want: &Run) {
    assert_close(&format!("{name}: y"), &got.y, &want.y, FORWARD);
    assert_close(&format!("{name}: state"), &got.state, &want.state, FORWARD);
    for ((got, want), input) in got.gradients.iter().zip(&want.gradients).zip(NAMES) {
        assert_close(&format!("{name}: gradient of {input}"), got, want, GRADIENT);
    }
}

/// The portable bodies, which f64 takes, leave nothing but the rounding of the finite differences.
#[cfg(feature = "flex")]
#[test]
fn the_portable_bodies_match_f64() {
    use burn::backend::Flex;
    for (name, case) in cases().filter(|(_, case)| case.time <= 100) {
        let (exponents, state) = case.final_state();
        let got = run_as::<Flex>(&case, &exponents, &Default::default(), wkv, DType::F64);
        assert_close(&format!("{name}: y"), &got.y, &case.outputs(), 1e-11);
        assert_close(&format!("{name}: state"), &got.state, &state, 1e-11);
        for ((got, want), input) in got.gradients.iter().zip(&case.gradients()).zip(NAMES) {
            assert_close(&format!("{name}: gradient of {input}"), got, want, 1e-6);
        }
    }
}

/// From the empty state, whose exponent is a sentinel.
fn the_empty_state_is_empty<B: RwkvBackend>(device: &B::Device) {
    for range in RANGES {
        let case = Case::random(5, [2, 7, 70], range).after_empty_state();
        let seen = as_seen_by::<B>(&case, device);
        let (exponents, state) = seen.final_state();
        let want = Run { y: seen.outputs(), state, gradients: seen.gradients() };
        let got = run::<B>(&case, &exponents, device);
        compare(&format!("{range:?}, empty state"), &got, &want);
        assert_close("y_1 = v_1", &got.y[..70], &case.v[..70], FORWARD);
        assert!(got.gradients[4].iter().all(|&x| x == 0.0), "nothing flows into the empty state");
    }
}

/// Half-precision activations: what is stored is rounded, what is computed is not.
fn half_precision_stays_f32_inside<B: RwkvBackend>(device: &B::Device) {
    for (dtype, unit) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        if !B::supports_dtype(device, dtype) {
            say(&format!("SKIPPED {dtype:?} on {}: it has no such type", B::name(device)));
            continue;
        }
        let mut case = Case::random(9, [2, 200, 37], Range::Unit);
        let round = |x: &[f64]| values(tensor::<B, 1>(x, [x.len()], &(device, dtype)).cast(DType::F32));
        (case.k, case.v, case.weight_y) = (round(&case.k), round(&case.v), round(&case.weight_y));
        let (b, t, c) = (case.batch, case.time, case.channels);
        let f32 = &(device, DType::F32);
        let half = &(device, dtype);
        let k = tensor::<Autodiff<B>, 3>(&case.k, [b, t, c], half).require_grad();
        let v = tensor::<Autodiff<B>, 3>(&case.v, [b, t, c], half).require_grad();
        let (y, state) = wkv(
            tensor(&case.time_decay, [c], f32),
            tensor(&case.time_first, [c], f32),
            k.clone(),
            v.clone(),
            tensor(&case.state, [b, 3, c], f32),
        );
        assert_eq!((y.dtype(), state.dtype()), (dtype, DType::F32));
        let grads = (y.clone() * tensor(&case.weight_y, [b, t, c], half)).sum().backward();
        case.weight_s.fill(0.0);
        let want = case.gradients();
        // One rounding of each result; the gradients see the rounded y and one more rounding.
        assert_close(&format!("{dtype:?} y"), &values(y.cast(DType::F32)), &case.outputs(), unit);
        let grad = |x: Tensor<Autodiff<B>, 3>| values(x.grad(&grads).expect("tracked").cast(DType::F32));
        assert_close(&format!("{dtype:?} gradient of k"), &grad(k), &want[2], 3.0 * unit);
        assert_close(&format!("{dtype:?} gradient of v"), &grad(v), &want[3], 3.0 * unit);
    }
}

/// Only some inputs are tracked: the others get no gradient, and nothing else changes.
fn untracked_inputs_get_no_gradient<B: RwkvBackend>(device: &B::Device) {
    let case = Case::random(3, [1, 9, 20], Range::Unit);
    let at = &(device, DType::F32);
    let (b, t, c) = (case.batch, case.time, case.channels);
    let v = tensor::<Autodiff<B>, 3>(&case.v, [b, t, c], at).require_grad();
    let k = tensor::<Autodiff<B>, 3>(&case.k, [b, t, c], at);
    let state = tensor(&case.state, [b, 3, c], at);
    let (y, _) = wkv(tensor(&case.time_decay, [c], at), tensor(&case.time_first, [c], at), k.clone(), v.clone(), state);
    let grads = (y * tensor(&case.weight_y, [b, t, c], at)).sum().backward();
    let mut only_y = case.clone();
    only_y.weight_s.fill(0.0);
    assert_close("gradient of v", &values(v.grad(&grads).expect("tracked")), &only_y.gradients()[3], GRADIENT);
    assert!(k.grad(&grads).is_none());
}

/// A broken key shows in the output.
fn nan_is_not_swallowed<B: RwkvBackend>(device: &B::Device) {
    let mut case = Case::random(3, [1, 5, 3], Range::Unit);
    case.k[3] = f64::NAN;
    let at = &(device, DType::F32);
    let parameters = [&case.time_decay, &case.time_first].map(|x| tensor::<B, 1>(x, [3], at));
    let [decay, first] = parameters;
    let sequence = |x: &[f64]| tensor::<B, 3>(x, [1, 5, 3], at);
    let (y, _) = wkv(decay, first, sequence(&case.k), sequence(&case.v), tensor(&case.state, [1, 3, 3], at));
    let y = values(y);
    assert!((1..5).all(|t| y[3 * t].is_nan()), "{y:?}");
    assert!((0..5).all(|t| y[3 * t + 1].is_finite()), "other channels are well: {y:?}");
}

on_every_backend!(
    kernels_match_f64,
    the_empty_state_is_empty,
    half_precision_stays_f32_inside,
    untracked_inputs_get_no_gradient,
    nan_is_not_swallowed,
);

#[cfg(feature = "flex")]
#[test]
#[should_panic(expected = "wkv: v and k have different shapes")]
fn shapes_that_disagree_are_refused() {
    let at = &(&Default::default(), DType::F32);
    let zeros = |shape: [usize; 3]| tensor::<burn::backend::Flex, 3>(&vec![0.0; shape.iter().product()], shape, at);
    let parameter = || tensor::<burn::backend::Flex, 1>(&[0.0; 3], [3], at);
    wkv(parameter(), parameter(), zeros([1, 5, 3]), zeros([1, 4, 3]), zeros([1, 3, 3]));
}
#[cfg(feature = "flex")]
mod definition_in_f64 {
    use super::*;
    on_every_backend!(kernels_match_the_definition);
}
