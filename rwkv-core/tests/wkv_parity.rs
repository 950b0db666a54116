//! WKV on every backend: outputs, final states and all five gradients against f64 and against the plain-op definition.

#[macro_use]
mod support;

use burn::backend::Autodiff;
use burn::tensor::{DType, Tensor};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::wkv::{definition, wkv};
use support::oracle::{Case, Range};
use support::{assert_close, tensor, values};

const RANGES: [Range; 3] = [Range::Unit, Range::Large, Range::Extreme];
/// Two batch rows and more channels than one CPU block, neither a multiple of anything.
const LENGTHS: [usize; 5] = [1, 2, 63, 100, 1000];

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

type Wkv<B> = fn(
    Tensor<B, 1>,
    Tensor<B, 1>,
    Tensor<B, 3>,
    Tensor<B, 3>,
    Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>);

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

on_every_backend!(kernels_match_f64);
#[cfg(feature = "flex")]
mod definition_in_f64 {
    use super::*;
    on_every_backend!(kernels_match_the_definition);
}
