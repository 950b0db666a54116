//! Cross-entropy on the CPU: a row of logits at a time; the gradient is the only table that is written.

use crate::ops::cpu::lanes::LANES;
use crate::ops::cpu::over::{Over, Rewritten};
use crate::ops::cpu::tensors::{CpuBackend, read, read_ids, write};
use crate::ops::cpu::vectors::{exp, load, store};
use crate::ops::cpu::{kernel, run};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, TensorMetadata};
use pulp::Simd;

/// Elements of the table that one task handles, in whole rows.
const TASK: usize = 1 << 13;

pub(in crate::ops) fn forward<B: CpuBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if logits.dtype() == DType::F64 {
        return super::portable::forward::<B>(logits, targets);
    }
    let device = B::float_device(&logits);
    let [count, vocab] = logits.shape().dims();
    let (logits, targets) = (read::<B>(logits), read_ids::<B>(targets));
    let logits = logits.as_ref();
    let (mut loss, mut lse) = (vec![0.0; count], vec![0.0; count]);
    let rows = TASK.div_ceil(vocab);
    let outputs = loss.chunks_mut(rows).zip(lse.chunks_mut(rows));
    let tasks = outputs.zip(logits.chunks(rows * vocab)).zip(targets.chunks(rows));
    run(Losses, logits.len(), tasks, &());
    (write::<B>(loss, [count], DType::F32, &device), write::<B>(lse, [count], DType::F32, &device))
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    l2_wrap: f32,
) -> FloatTensor<B> {
    if logits.dtype() == DType::F64 {
        return super::portable::backward::<B>(logits, targets, lse, grad, l2_wrap);
    }
    let [_, vocab] = logits.shape().dims();
    let (mut logits, [lse, grad], targets) =
        (Over::<B>::new(logits), [lse, grad].map(read::<B>), read_ids::<B>(targets));
    let (elements, rows) = (logits.len(), TASK.div_ceil(vocab));
    let tables = logits.parts(rows * vocab).into_iter().zip(targets.chunks(rows));
    let tasks = tables.zip(lse.as_ref().chunks(rows)).zip(grad.as_ref().chunks(rows));
    run(Slopes, elements, tasks, &l2_wrap);
    logits.into_tensor()
}

kernel!(Losses on simd = losses<'a>((), LossTask<'a>));
kernel!(Slopes on simd = slopes<'a>(f32, SlopeTask<'a>));

/// The rows of the losses, the log-denominators, the logits and the targets.
type LossTask<'a> = (((&'a mut [f32], &'a mut [f32]), &'a [f32]), &'a [i64]);

#[inline(always)]
fn losses<S: Simd>(simd: S, (): &(), (((loss, lse), logits), targets): LossTask<'_>) {
    let vocab = logits.len() / loss.len();
    for (((loss, lse), row), &target) in loss.iter_mut().zip(lse).zip(logits.chunks(vocab)).zip(targets) {
        let (_, largest) = argmax(row);
        let shift = simd.splat_f32s(largest);
        // Several sums, which is faster and more exact than one.
        let mut sums = [simd.splat_f32s(0.0); 4];
        let (whole, rest) = S::as_simd_f32s(row);
        for parts in whole.chunks(sums.len()) {
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = simd.add_f32s(*sum, exp(simd, simd.sub_f32s(*part, shift)));
            }
        }
        let mut sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
        if !rest.is_empty() {
            let mut terms = [0.0; LANES];
            store(simd, &mut terms, exp(simd, simd.sub_f32s(load(simd, rest), shift)));
            // The lanes past the end of the row are no logits.
            sum = simd.add_f32s(sum, load(simd, &terms[..rest.len()]));
        }
        *lse = largest + simd.reduce_sum_f32s(sum).ln();
        *loss = *lse - row[target as usize];
    }
}

/// The rows of the logits, which become those of their gradient, the targets, the log-denominators and the gradient that
/// arrives.
type SlopeTask<'a> = (((Rewritten<'a>, &'a [i64]), &'a [f32]), &'a [f32]);

#[inline(always)]
fn slopes<S: Simd>(simd: S, &l2_wrap: &f32, (((logits, targets), lse), grad): SlopeTask<'_>) {
    let table = logits.take();
    let vocab = table.len() / targets.len();
    for (((row, &target), lse), grad) in table.chunks_mut(vocab).zip(targets).zip(lse).zip(grad) {
        let wrapped = (l2_wrap > 0.0).then(|| argmax(row));
        for row in row.chunks_mut(S::F32_LANES) {
            let softmax = exp(simd, simd.sub_f32s(load(simd, row), simd.splat_f32s(*lse)));
            store(simd, row, simd.mul_f32s(softmax, simd.splat_f32s(*grad)));
        }
        row[target as usize] -= grad;
        if let Some((index, largest)) = wrapped {
            row[index] += l2_wrap * largest * grad;
        }
    }
}

/// The first of the largest entries and its place; NaN where there is one, so that it shows.
#[inline(always)]
fn argmax(row: &[f32]) -> (usize, f32) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let whole = row.chunks_exact(LANES);
    let tail = whole.remainder();
    for part in whole {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane = if x > *lane || x.is_nan() { x } else { *lane };
        }
    }
    let larger = |max: f32, &x: &f32| if x > max || x.is_nan() { x } else { max };
    let largest = tail.iter().fold(lanes.iter().fold(f32::NEG_INFINITY, larger), larger);
    (row.iter().position(|&x| x == largest).unwrap_or(0), largest)
}
