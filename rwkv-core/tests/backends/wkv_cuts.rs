//! WKV on GPUs with sequences shared by any number of units against f64: on a software driver none would be.

use crate::support::oracle::{Case, Range};
use crate::support::{assert_close, say, tensor, values};
use burn::tensor::backend::{Backend, BackendTypes};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use rwkv_core::ops::wkv::cube::{self, Cut};
use rwkv_core::ops::wkv::{WkvGradients, WkvInputs, WkvSaved};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

/// A length, and by how many units it is shared, how many tokens each takes at a time: windows that do and do not divide it,
/// that are longer, with segments that are left empty; one unit alone.
const CUTS: [(usize, &[(usize, usize)]); 4] = [
    (1, &[(1, 1), (1, 4), (4, 1), (2, 4)]),
    (9, &[(1, 1), (1, 3), (1, 4), (2, 1), (4, 2), (16, 4), (32, 1)]),
    (100, &[(1, 8), (2, 8), (4, 5), (4, 7), (16, 8)]),
    (1000, &[(1, 16), (8, 5), (8, 16), (32, 4)]),
];

fn float<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn numbers<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Vec<f64> {
    values(Tensor::<B, D>::from_primitive(TensorPrimitive::Float(primitive)))
}

/// The type of device of a CubeCL backend.
type Device<R, F, I, BT> = <CubeBackend<R, F, I, BT> as BackendTypes>::Device;

fn units_share_a_sequence<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    device: &Device<R, F, I, BT>,
) {
    for range in [Range::Unit, Range::Large, Range::Extreme] {
        for (time, cuts) in CUTS {
            if time == 1 && range == Range::Extreme {
                // The state or the token is all of the output, and gradients are differences of nothing.
                continue;
            }
            let mut case = Case::random(time as u64, [2, time, 19], range);
            if time == 9 {
                case = case.after_empty_state();
            }
            check::<CubeBackend<R, F, I, BT>>(&format!("{range:?}, {time} tokens"), &case, device, &|inputs, loss| {
                cuts.iter().map(|&cut| run(cut, &inputs, &loss)).collect()
            });
        }
    }
}

/// The gradients that arrive at the outputs and, as adjoints, at the final state.
struct Loss<B: Backend> {
    gy: FloatTensor<B>,
    adjoint: FloatTensor<B>,
}

/// What one cut gives: outputs, state, and the gradients of the inputs.
struct Run<B: Backend> {
    cut: (usize, usize),
    y: FloatTensor<B>,
    state: FloatTensor<B>,
    gradients: WkvGradients<B>,
}

fn run<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    (segments, tokens): (usize, usize),
    inputs: &WkvInputs<CubeBackend<R, F, I, BT>>,
    loss: &Loss<CubeBackend<R, F, I, BT>>,
) -> Run<CubeBackend<R, F, I, BT>> {
    let cut = Cut::new(segments, tokens);
    let out = cube::forward(inputs.clone(), true, cut);
    let alone = cube::forward(inputs.clone(), false, cut);
    let bits = |y: &FloatTensor<CubeBackend<R, F, I, BT>>| numbers::<CubeBackend<R, F, I, BT>, 3>(y.clone());
    let (beside, y) = (bits(&out.y), bits(&alone.y));
    assert!(beside.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "outputs beside log-denominators");
    let saved = WkvSaved { inputs: inputs.clone(), y: out.y.clone(), lse: out.lse.expect("asked for") };
    let gradients = cube::backward(saved, loss.gy.clone(), loss.adjoint.clone(), cut);
    Run { cut: (segments, tokens), y: out.y, state: out.state, gradients }
}

fn check<B: Backend>(name: &str, case: &Case, device: &B::Device, runs: &dyn Fn(WkvInputs<B>, Loss<B>) -> Vec<Run<B>>) {
    let (b, t, c) = (case.batch, case.time, case.channels);
    let at = &(device, DType::F32);
    let sequence = |x: &[f64]| float(tensor::<B, 3>(x, [b, t, c], at));
    let w = tensor::<B, 1>(&case.time_decay, [c], at).exp().neg();
    // The decay as this device computed it: at keys of ±1000 its last digit would show.
    let decay = values(w.clone());
    let seen = Case { time_decay: decay.iter().map(|w| (-w).ln()).collect(), ..case.clone() };
    let ((exponents, state), outputs, gradients) = (seen.final_state(), seen.outputs(), seen.gradients());

    let exponents = tensor::<B, 3>(&exponents, [b, 1, c], at);
    let inputs = WkvInputs::<B> {
        w: float(w),
        u: float(tensor::<B, 1>(&case.time_first, [c], at)),
        k: sequence(&case.k),
        v: sequence(&case.v),
        state: float(tensor::<B, 3>(&case.state, [b, 3, c], at)),
    };
    let weights = tensor::<B, 3>(&case.weight_s, [b, 2, c], at);
    let adjoint = float(Tensor::cat(vec![weights, exponents.clone().neg()], 1));
    for run in runs(inputs, Loss { gy: sequence(&case.weight_y), adjoint }) {
        let name = format!("{name}, units and their tokens {:?}", run.cut);
        assert_close(&format!("{name}: y"), &numbers::<B, 3>(run.y), &outputs, FORWARD);
        let last = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(run.state));
        let scale = (last.clone().narrow(1, 2, 1) - exponents.clone()).exp();
        assert_close(&format!("{name}: state"), &values(last.narrow(1, 0, 2) * scale), &state, FORWARD);
        let WkvGradients { w, u, k, v, state } = run.gradients;
        let got = [
            numbers::<B, 1>(w).iter().zip(&decay).map(|(gradient, w)| gradient * w).collect(), // of time_decay
            numbers::<B, 1>(u),
            numbers::<B, 3>(k),
            numbers::<B, 3>(v),
            numbers::<B, 3>(state),
        ];
        for ((got, want), input) in got.iter().zip(&gradients).zip(["time_decay", "time_first", "k", "v", "state"]) {
            assert_close(&format!("{name}: gradient of {input}"), got, want, GRADIENT);
        }
    }
}

/// A case's inputs, keys and values in this dtype.
fn inputs<B: Backend>(case: &Case, device: &B::Device, dtype: DType) -> WkvInputs<B> {
    let (b, t, c) = (case.batch, case.time, case.channels);
    let at = &(device, DType::F32);
    let sequence = |x: &[f64]| float(tensor::<B, 3>(x, [b, t, c], at).cast(dtype));
    WkvInputs {
        w: float(tensor::<B, 1>(&case.time_decay, [c], at).exp().neg()),
        u: float(tensor::<B, 1>(&case.time_first, [c], at)),
        k: sequence(&case.k),
        v: sequence(&case.v),
        state: float(tensor::<B, 3>(&case.state, [b, 3, c], at)),
    }
}

/// A key that is no number reaches the outputs from its token on, in whichever segment it is, and no other channel; a key of
/// −∞ weighs nothing, as long as its segment has others.
fn broken_keys_stay_in_their_channel<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    device: &Device<R, F, I, BT>,
) {
    for token in [0, 13, 21, 39] {
        let mut case = Case::random(3, [1, 40, 3], Range::Unit);
        case.k[3 * token + 1] = f64::NAN;
        case.k[3 * token + 2] = f64::NEG_INFINITY;
        for (segments, tokens) in [(1, 1), (1, 4), (4, 4), (8, 1)] {
            let inputs = inputs::<CubeBackend<R, F, I, BT>>(&case, device, DType::F32);
            let out = cube::forward(inputs, false, Cut::new(segments, tokens));
            let y = numbers::<CubeBackend<R, F, I, BT>, 3>(out.y);
            let name = format!("token {token}, {segments} units, {tokens} tokens");
            assert!((0..40).all(|t| y[3 * t].is_finite()), "{name}: {y:?}");
            if tokens > 1 || segments == 1 {
                assert!((0..40).all(|t| y[3 * t + 2].is_finite()), "{name}: {y:?}");
            }
            assert!((0..40).all(|t| y[3 * t + 1].is_nan() == (t >= token)), "{name}: {y:?}");
        }
    }
}

/// In half precision units that share a sequence give what one gives alone, up to a rounding of the results.
fn half_precision_is_shared_too<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    device: &Device<R, F, I, BT>,
) {
    for (dtype, unit) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
        if !CubeBackend::<R, F, I, BT>::supports_dtype(device, dtype) {
            say(&format!("SKIPPED {dtype:?}: the device has no such type"));
            continue;
        }
        let case = Case::random(4, [2, 75, 19], Range::Unit);
        let loss = || {
            let at = &(device, DType::F32);
            let gy = tensor::<CubeBackend<R, F, I, BT>, 3>(&case.weight_y, [2, 75, 19], at).cast(dtype);
            let adjoint = tensor::<CubeBackend<R, F, I, BT>, 3>(&[0.0; 2 * 3 * 19], [2, 3, 19], at);
            Loss { gy: float(gy), adjoint: float(adjoint) }
        };
        let run = |cut| {
            let run = run(cut, &inputs::<CubeBackend<R, F, I, BT>>(&case, device, dtype), &loss());
            let WkvGradients { k, v, .. } = run.gradients;
            [run.y, k, v].map(|x| {
                assert_eq!(x.dtype, dtype);
                values(
                    Tensor::<CubeBackend<R, F, I, BT>, 3>::from_primitive(TensorPrimitive::Float(x)).cast(DType::F32),
                )
            })
        };
        let alone = run((1, 1));
        for cut in [(1, 8), (4, 8), (32, 1)] {
            for ((shared, alone), what) in run(cut).iter().zip(&alone).zip(["y", "gradient of k", "gradient of v"]) {
                assert_close(&format!("{dtype:?}, {cut:?}: {what}"), shared, alone, unit);
            }
        }
    }
}

macro_rules! on_gpus {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $test() {
                if crate::support::has_device::<burn::backend::Wgpu>("wgpu", stringify!($test)) {
                    super::$test::<burn::backend::wgpu::WgpuRuntime, f32, i32, u32>(&Default::default());
                }
            })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $test() {
                if crate::support::has_device::<burn::backend::Cuda>("cuda", stringify!($test)) {
                    super::$test::<cubecl::cuda::CudaRuntime, f32, i32, u8>(&Default::default());
                }
            })*
        }
    };
}

on_gpus!(units_share_a_sequence, broken_keys_stay_in_their_channel, half_precision_is_shared_too);
