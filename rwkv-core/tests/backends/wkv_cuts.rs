//! WKV on GPUs with sequences shared by any number of units against f64: on a software driver none would be.

use crate::support::oracle::{Case, Range};
use crate::support::{assert_close, tensor, values};
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
const CUTS: [(usize, &[(usize, usize)]); 3] = [
    (9, &[(1, 1), (1, 3), (1, 4), (2, 1), (4, 2), (16, 4), (32, 1)]),
    (100, &[(1, 8), (2, 8), (4, 5), (16, 8)]),
    (1000, &[(1, 4), (8, 5), (16, 8), (32, 4)]),
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

#[cfg(feature = "wgpu")]
#[test]
fn units_share_a_sequence_on_wgpu() {
    if crate::support::has_device::<burn::backend::Wgpu>("wgpu", "units_share_a_sequence") {
        units_share_a_sequence::<burn::backend::wgpu::WgpuRuntime, f32, i32, u32>(&Default::default());
    }
}

#[cfg(feature = "cuda")]
#[test]
fn units_share_a_sequence_on_cuda() {
    if crate::support::has_device::<burn::backend::Cuda>("cuda", "units_share_a_sequence") {
        units_share_a_sequence::<cubecl::cuda::CudaRuntime, f32, i32, u8>(&Default::default());
    }
}
