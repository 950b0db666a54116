//! Cross-entropy on CubeCL backends: one launch forward, one backward; a cube takes a row.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | forward | 1 | logits, once more from the cache | two numbers a row | 3, one exponential |
//! | backward | 1 | logits, with L2Wrap once more from the cache | `∂logits` | 3, one exponential |

use crate::ops::cube::reduce::{largest, sum};
use crate::ops::cube::{empty, empty_like, rows};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub(in crate::ops) fn forward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [logits, targets] = [logits, targets].map(into_contiguous);
    let [count, vocab] = logits.shape().dims();
    let inside = inner_dtype(logits.dtype);
    let [loss, lse] = [(); 2].map(|()| empty(&logits, [count], inside));
    let (cubes, dim, units) = rows(count, vocab);
    let dtypes = [logits.dtype.into(), inside.into(), targets.dtype.into()];
    let client = logits.client.clone();
    let [logits, targets] = [logits, targets].map(CubeTensor::into_tensor_arg);
    let [out_loss, out_lse] = [&loss, &lse].map(|out| out.clone().into_tensor_arg());
    losses::launch::<R>(&client, cubes, dim, logits, targets, out_loss, out_lse, units, dtypes);
    (loss, lse)
}

pub(in crate::ops) fn backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    lse: CubeTensor<R>,
    grad: CubeTensor<R>,
    l2_wrap: f32,
) -> CubeTensor<R> {
    let [logits, targets, lse, grad] = [logits, targets, lse, grad].map(into_contiguous);
    let [count, vocab] = logits.shape().dims();
    let inside = inner_dtype(logits.dtype);
    let out = empty_like(&logits);
    let (cubes, dim, units) = rows(count, vocab);
    let dtypes = [logits.dtype.into(), inside.into(), targets.dtype.into(), grad.dtype.into()];
    let client = logits.client.clone();
    let [logits, targets, lse, grad] = [logits, targets, lse, grad].map(CubeTensor::into_tensor_arg);
    let to_logits = out.clone().into_tensor_arg();
    let scale = InputScalar::new(l2_wrap, inside);
    spread::launch::<R>(
        &client,
        cubes,
        dim,
        logits,
        targets,
        lse,
        grad,
        to_logits,
        scale,
        l2_wrap > 0.0,
        units,
        dtypes,
    );
    out
}

#[cube(launch)]
fn losses<F: Float, S: Float, I: Int>(
    logits: &Tensor<F>,  // [N, V]
    targets: &Tensor<I>, // [N]
    loss: &mut Tensor<S>,
    lse: &mut Tensor<S>,
    #[comptime] units: u32,
    #[define(F, S, I)] _dtypes: [StorageType; 3],
) {
    let vocab = logits.shape(1);
    let row = CUBE_POS;
    if row < logits.shape(0) {
        let start = row * vocab;
        // Units beyond the row start at its first logit: the maximum is of the row in any case.
        let mut top = S::cast_from(logits[start]);
        let mut token = UNIT_POS as usize;
        while token < vocab {
            top = max(top, S::cast_from(logits[start + token]));
            token += units as usize;
        }
        let top = largest::<S>(top, 0u32, units).value;
        let mut total = S::new(0.0);
        let mut token = UNIT_POS as usize;
        while token < vocab {
            total += S::exp(S::cast_from(logits[start + token]) - top);
            token += units as usize;
        }
        let total = sum::<S>(total, units);
        if UNIT_POS == 0 {
            let log = S::ln(total) + top;
            lse[row] = log;
            loss[row] = log - S::cast_from(logits[start + usize::cast_from(targets[row])]);
        }
    }
}

#[cube(launch)]
fn spread<F: Float, S: Float, I: Int, D: Float>(
    logits: &Tensor<F>,  // [N, V]
    targets: &Tensor<I>, // [N]
    lse: &Tensor<S>,     // [N]
    grad: &Tensor<D>,    // [N]
    to_logits: &mut Tensor<F>,
    l2_wrap: InputScalar,
    #[comptime] wrapped: bool,
    #[comptime] units: u32,
    #[define(F, S, I, D)] _dtypes: [StorageType; 4],
) {
    let vocab = logits.shape(1);
    let row = CUBE_POS;
    if row < logits.shape(0) {
        let start = row * vocab;
        let target = usize::cast_from(targets[row]);
        let grad = S::cast_from(grad[row]);
        let lse = lse[row];
        let mut highest = vocab;
        let mut pull = S::new(0.0);
        if comptime!(wrapped) {
            let mut top = S::cast_from(logits[start]);
            let mut index = 0u32;
            let mut token = UNIT_POS as usize;
            while token < vocab {
                let logit = S::cast_from(logits[start + token]);
                if logit > top {
                    top = logit;
                    index = token as u32;
                }
                token += units as usize;
            }
            let found = largest::<S>(top, index, units);
            highest = found.index as usize;
            pull = found.value * l2_wrap.get::<S>();
        }
        let mut token = UNIT_POS as usize;
        while token < vocab {
            let mut slope = S::exp(S::cast_from(logits[start + token]) - lse);
            if token == target {
                slope -= S::new(1.0);
            }
            if token == highest {
                slope += pull;
            }
            to_logits[start + token] = F::cast_from(slope * grad);
            token += units as usize;
        }
    }
}
