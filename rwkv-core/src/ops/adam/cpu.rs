//! Adam's update on the CPU: one pass.

use super::{AdamUpdate, Factors};
use crate::ops::cpu::lanes::{LANES, load, map, store};
use crate::ops::cpu::over::{Over, Rewritten};
use crate::ops::cpu::tensors::{CpuBackend, read};
use crate::ops::cpu::{CHUNK, kernel, run};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn updates<B: CpuBackend>(
    updates: Vec<AdamUpdate<B>>,
    norm: FloatTensor<B>,
) -> Vec<[FloatTensor<B>; 3]> {
    if updates.iter().any(|update| update.param.dtype() == DType::F64) {
        return super::portable::updates::<B>(updates, &norm);
    }
    let norm = f64::from(read::<B>(norm).as_ref()[0]);
    updates.into_iter().map(|update| after(update, norm)).collect()
}

fn after<B: CpuBackend>(update: AdamUpdate<B>, norm: f64) -> [FloatTensor<B>; 3] {
    let AdamUpdate { param, grad, first, second, step } = update;
    if !norm.is_finite() {
        return [param, first, second];
    }
    let clip = (step.max_norm / (norm + 1e-6)).min(1.0) as f32;
    let (grad, mut state) = (read::<B>(grad), [param, first, second].map(Over::<B>::new));
    let elements = grad.as_ref().len();
    let [param, first, second] = state.each_mut().map(|state| state.parts(CHUNK).into_iter());
    let tasks = param.zip(first).zip(second).zip(grad.as_ref().chunks(CHUNK));
    run(Update, elements, tasks, &(clip, Factors::from(&step)));
    state.map(Over::into_tensor)
}

/// The chunks of the parameter and its moments, which become the new ones, and those of the gradient.
type Task<'a> = (((Rewritten<'a>, Rewritten<'a>), Rewritten<'a>), &'a [f32]);

kernel!(Update = update<'a>((f32, Factors), Task<'a>));

#[inline(always)]
fn update((clip, f): &(f32, Factors), (((param, first), second), grad): Task<'_>) {
    let (param, first, second) = (param.take(), first.take(), second.take());
    let state = param.chunks_mut(LANES).zip(first.chunks_mut(LANES)).zip(second.chunks_mut(LANES));
    for (((param, first), second), grad) in state.zip(grad.chunks(LANES)) {
        let grad = load(grad);
        let grad = map(|i| clip * grad[i]);
        let (old, old_first, old_second) = (load(param), load(first), load(second));
        let moment = map(|i| f.beta_1 * old_first[i] + f.new_1 * grad[i]);
        let square = map(|i| f.beta_2 * old_second[i] + f.new_2 * grad[i] * grad[i]);
        store(first, &moment);
        store(second, &square);
        store(param, &map(|i| f.keep * old[i] - f.rate * moment[i] / (square[i].sqrt() * f.scale + f.epsilon)));
    }
}
