//! Adam's update on the CPU: one pass.

use super::{AdamStep, Factors};
use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::lanes::{LANES, load, map, store};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn step<B: CpuBackend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    step: &AdamStep,
) -> [FloatTensor<B>; 3] {
    if param.dtype() == DType::F64 {
        return super::portable::step::<B>(param, grad, first, second, step);
    }
    let (shape, dtype, device) = (param.shape(), param.dtype(), B::float_device(&param));
    let [param, grad, first, second] = [param, grad, first, second].map(read::<B>);
    let [param, grad, first, second] = [param.as_ref(), grad.as_ref(), first.as_ref(), second.as_ref()];
    let mut outputs = [(); 3].map(|()| Fresh::new(param.len()));
    let [to_param, to_first, to_second] = &mut outputs;
    let outputs_of_task = to_param.parts(CHUNK).zip(to_first.parts(CHUNK)).zip(to_second.parts(CHUNK));
    let inputs = param.chunks(CHUNK).zip(grad.chunks(CHUNK)).zip(first.chunks(CHUNK)).zip(second.chunks(CHUNK));
    run(Update, param.len(), outputs_of_task.zip(inputs), &Factors::from(step));
    outputs.map(|values| write::<B>(values.into_vec(), shape.clone(), dtype, &device))
}

/// The chunks of the new parameter and moments; those of the parameter, the gradient and the old moments.
type Task<'a> = (((Part<'a>, Part<'a>), Part<'a>), (((&'a [f32], &'a [f32]), &'a [f32]), &'a [f32]));

kernel!(Update = update<'a>(Factors, Task<'a>));

#[inline(always)]
fn update(f: &Factors, (((to_param, to_first), to_second), (((param, grad), first), second)): Task<'_>) {
    let (to_param, to_first, to_second) = (to_param.clear(), to_first.clear(), to_second.clear());
    let outputs = to_param.chunks_mut(LANES).zip(to_first.chunks_mut(LANES)).zip(to_second.chunks_mut(LANES));
    let inputs = param.chunks(LANES).zip(grad.chunks(LANES)).zip(first.chunks(LANES)).zip(second.chunks(LANES));
    for (((to_param, to_first), to_second), (((param, grad), first), second)) in outputs.zip(inputs) {
        let (param, grad, first, second) = (load(param), load(grad), load(first), load(second));
        let first = map(|i| f.beta_1 * first[i] + f.new_1 * grad[i]);
        let second = map(|i| f.beta_2 * second[i] + f.new_2 * grad[i] * grad[i]);
        store(to_first, &first);
        store(to_second, &second);
        store(to_param, &map(|i| f.keep * param[i] - f.rate * first[i] / (second[i].sqrt() * f.scale + f.epsilon)));
    }
}
