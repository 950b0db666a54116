//! Adam's update on CubeCL backends: several parameters a launch, which reads four tensors of each, and the norm of all
//! gradients, and writes three, 28 bytes and 15 flops an element.

use super::{AdamStep, AdamUpdate, Factors};
use crate::ops::cube::{empty_like, empty_together, fold, vector_size};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

/// Units of a cube, each of which takes a vector.
const UNITS: usize = 64;

/// Tensors of a parameter in a launch.
const TENSORS: usize = 7;

/// Tensors of a launch besides: the norm, and the sizes of all.
const BESIDES: usize = 2;

/// The most parameters of a launch: its kernel has the update once for each.
const TOGETHER: usize = 8;

/// The most elements of a launch of several parameters. More are worth a launch of their own, and new tensors that share
/// memory should not be large.
const ELEMENTS: usize = 1 << 20;

/// The parameters of a launch: where they stand among all, and their tensors.
struct Group<R: CubeRuntime> {
    step: AdamStep,
    vector: VectorSize,
    elements: usize,
    places: Vec<usize>,
    /// Parameters, gradients, first and second moments.
    tensors: [Vec<CubeTensor<R>>; 4],
}

pub(in crate::ops) fn updates<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    updates: Vec<AdamUpdate<CubeBackend<R, F, I, BT>>>,
    norm: CubeTensor<R>,
) -> Vec<[CubeTensor<R>; 3]> {
    let f32 = |update: &AdamUpdate<CubeBackend<R, F, I, BT>>| {
        let AdamUpdate { param, grad, first, second, .. } = update;
        [param, grad, first, second].iter().all(|tensor| tensor.dtype == DType::F32)
    };
    if norm.dtype != DType::F32 || !updates.iter().all(f32) {
        return super::portable::updates::<CubeBackend<R, F, I, BT>>(updates, &norm);
    }
    let mut after: Vec<_> = updates.iter().map(|_| None).collect();
    for group in groups(updates, &norm) {
        let places = group.places.clone();
        for (place, tensors) in places.into_iter().zip(launch(group, &norm)) {
            after[place] = Some(tensors);
        }
    }
    after.into_iter().map(|tensors| tensors.expect("every place is in a group")).collect()
}

/// Parameters of one step and one size of vectors, as many as a launch takes.
fn groups<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    updates: Vec<AdamUpdate<CubeBackend<R, F, I, BT>>>,
    norm: &CubeTensor<R>,
) -> Vec<Group<R>> {
    let bindings = norm.client.properties().hardware.max_bindings as usize;
    let together = (bindings.saturating_sub(BESIDES) / TENSORS).clamp(1, TOGETHER);
    let mut groups: Vec<Group<R>> = Vec::new();
    for (place, AdamUpdate { param, grad, first, second, step }) in updates.into_iter().enumerate() {
        let elements = param.shape().num_elements();
        let vector = vector_size(&param, elements);
        let takes = |group: &Group<R>| {
            let room = group.places.len() < together && group.elements + elements <= ELEMENTS;
            room && group.step == step && group.vector == vector
        };
        let index = groups.iter().rposition(takes).unwrap_or_else(|| {
            let tensors = [(); 4].map(|()| Vec::new());
            groups.push(Group { step, vector, elements: 0, places: Vec::new(), tensors });
            groups.len() - 1
        });
        let group = &mut groups[index];
        group.elements += elements;
        group.places.push(place);
        for (all, tensor) in group.tensors.iter_mut().zip([param, grad, first, second]) {
            all.push(into_contiguous(tensor));
        }
    }
    groups
}

/// `[p, m, v]` of every parameter.
fn launch<R: CubeRuntime>(group: Group<R>, norm: &CubeTensor<R>) -> Vec<[CubeTensor<R>; 3]> {
    let Group { step, vector, tensors: [params, grads, firsts, seconds], .. } = group;
    let after: Vec<[CubeTensor<R>; 3]> = match &params[..] {
        // One buffer for all three might be larger than the device has.
        [param] => vec![[(); 3].map(|()| empty_like(param))],
        _ => {
            let shapes = params.iter().flat_map(|param| [param.shape(), param.shape(), param.shape()]);
            let mut made = empty_together(norm, shapes, DType::F32).into_iter();
            params.iter().map(|_| [(); 3].map(|()| made.next().expect("a tensor for every shape"))).collect()
        }
    };
    let cubes = params.iter().map(|param| (param.shape().num_elements() / vector).div_ceil(UNITS)).sum();
    let to = |which: usize| after.iter().map(|tensors| tensors[which].clone().into_tensor_arg()).collect();
    let [params, grads, firsts, seconds] = [params, grads, firsts, seconds]
        .map(|tensors| tensors.into_iter().map(CubeTensor::into_tensor_arg).collect::<SequenceArg<R, _>>());
    let Factors { max_norm, beta_1, beta_2, new_1, new_2, epsilon, keep, rate, scale } = (&step).into();
    update::launch::<R>(
        &norm.client,
        fold(cubes),
        CubeDim::new_1d(UNITS as u32),
        vector,
        params,
        grads,
        firsts,
        seconds,
        norm.clone().into_tensor_arg(),
        to(0),
        to(1),
        to(2),
        max_norm,
        beta_1,
        beta_2,
        new_1,
        new_2,
        epsilon,
        keep,
        rate,
        scale,
    );
    after
}

/// The cubes of one parameter come after those of the one before.
#[cube(launch)]
fn update<N: Size>(
    params: &Sequence<Tensor<Vector<f32, N>>>,
    grads: &Sequence<Tensor<Vector<f32, N>>>,
    firsts: &Sequence<Tensor<Vector<f32, N>>>,
    seconds: &Sequence<Tensor<Vector<f32, N>>>,
    norm: &Tensor<f32>, // [1]
    to_params: &mut Sequence<Tensor<Vector<f32, N>>>,
    to_firsts: &mut Sequence<Tensor<Vector<f32, N>>>,
    to_seconds: &mut Sequence<Tensor<Vector<f32, N>>>,
    max_norm: f32,
    beta_1: f32,
    beta_2: f32,
    new_1: f32,
    new_2: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
    scale: f32,
) {
    let norm = norm[0];
    let clip = min(max_norm / (norm + 1e-6), 1.0);
    let mut start = 0usize.runtime();
    #[unroll]
    for which in 0..params.len() {
        let (param, grad) = (params.index(which), grads.index(which));
        let (first, second) = (firsts.index(which), seconds.index(which));
        let to_param = to_params.index_mut(which);
        let to_first = to_firsts.index_mut(which);
        let to_second = to_seconds.index_mut(which);
        let i = (CUBE_POS - start) * UNITS + UNIT_POS as usize;
        if CUBE_POS >= start && i < param.len() {
            // These two look at bits; a comparison may go, for shaders' compilers may suppose that all numbers are finite.
            if norm.is_nan() || norm.is_inf() {
                to_first[i] = first[i];
                to_second[i] = second[i];
                to_param[i] = param[i];
            } else {
                let grad = Vector::new(clip) * grad[i];
                let moment = Vector::new(beta_1) * first[i] + Vector::new(new_1) * grad;
                let square = Vector::new(beta_2) * second[i] + Vector::new(new_2) * grad * grad;
                let below = Vector::sqrt(square) * Vector::new(scale) + Vector::new(epsilon);
                to_first[i] = moment;
                to_second[i] = square;
                to_param[i] = Vector::new(keep) * param[i] - Vector::new(rate) * moment / below;
            }
        }
        start += param.len().div_ceil(UNITS);
    }
}
