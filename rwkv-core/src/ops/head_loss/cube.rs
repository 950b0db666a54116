//! From logits to losses and the gradient on CubeCL backends: one launch, in which a cube takes a row.
//!
//! | | launches | reads | writes | flops an element |
//! |---|---|---|---|---|
//! | losses | 1 | logits | a number a row | 5, one exponential |
//! | with the gradient | 1 | logits, once more from the cache | the gradient, over them | 9, two exponentials |
//!
//! The largest logit and the sum of exponentials under it are found in one pass. Arithmetic is in `f32` whatever the logits
//! are; a unit asks for [`AT_ONCE`] vectors before it computes.

use super::LogitRows;
use crate::ops::cube::{empty, fold, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

/// Vectors of logits that a unit asks for at once.
const AT_ONCE: usize = 4;

/// Units of a cube for each byte of a logit, where multiprocessors have as many. One such cube at a time takes most of a
/// multiprocessor's registers, so that the rows that are worked on at a time, 132 on a large GPU, stay in its cache until they are
/// read again.
const UNITS_A_BYTE: usize = 256;

/// What every GPU has, whatever registers a kernel takes.
const UNITS_ANYWHERE: usize = 256;

/// [`RwkvBackend::losses_of_rows`](crate::ops::RwkvBackend::losses_of_rows).
pub(in crate::ops) fn losses<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    rows: LogitRows<CubeBackend<R, F, I, BT>>,
    wants_gradient: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let LogitRows { logits, vocab, targets, weights, l2_wrap } = rows;
    let [targets, weights] = [targets, weights].map(into_contiguous);
    // Rows may lie apart, as a product leaves them on CUDA.
    let in_rows = logits.meta.strides()[1] == 1;
    let logits = if in_rows { logits } else { into_contiguous(logits) };
    let in_place = logits.can_mut() && logits.is_nonoverlapping();
    let logits = if !wants_gradient || in_place { logits } else { logits.copy() };
    let [count, width] = logits.shape().dims();
    let inside = inner_dtype(logits.dtype);
    let losses = empty(&logits, [count], inside);
    let size = vector_size(&logits, width);
    let size = if logits.meta.strides()[0].is_multiple_of(size) { size } else { 1 };
    let hardware = &logits.client.properties().hardware;
    // CUDA alone says how many it has, and compiles a kernel for the units that it is launched with.
    let most = match hardware.num_streaming_multiprocessors {
        Some(_) => (UNITS_A_BYTE * logits.dtype.size()).min(hardware.max_units_per_cube as usize),
        None => UNITS_ANYWHERE,
    };
    let units = (width / size).next_power_of_two().clamp(32, 1 << most.ilog2());
    let client = logits.client.clone();
    let dtypes = [logits.dtype.into(), inside.into(), targets.dtype.into(), weights.dtype.into()];
    losses_and_gradient::launch::<R>(
        &client,
        fold(count),
        CubeDim::new_1d(u32::try_from(units).expect("as many as a GPU has")),
        size,
        logits.clone().into_tensor_arg(),
        targets.into_tensor_arg(),
        weights.into_tensor_arg(),
        losses.clone().into_tensor_arg(),
        InputScalar::new(l2_wrap, inside),
        vocab,
        wants_gradient,
        units,
        dtypes,
    );
    (losses, wants_gradient.then_some(logits))
}

/// What is known of some logits: the largest, and of equal ones the first; and the sum of the exponentials of all, each over
/// that of the largest.
#[derive(CubeType)]
struct Found<S: Float> {
    top: S,
    index: u32,
    sum: S,
}

#[cube(launch)]
fn losses_and_gradient<F: Float, S: Float, I: Int, D: Float, N: Size>(
    logits: &mut Tensor<Vector<F, N>>, // [N, W], then their gradient
    targets: &Tensor<I>,               // [N]
    weights: &Tensor<D>,               // [N]
    losses: &mut Tensor<S>,            // [N]
    l2_wrap: InputScalar,
    vocab: usize,
    #[comptime] with_gradient: bool,
    #[comptime] units: usize,
    #[define(F, S, I, D)] _dtypes: [StorageType; 4],
) {
    let row = CUBE_POS;
    if row < losses.len() {
        let vectors = logits.shape(1) / N::value();
        let start = row * (logits.stride(0) / N::value());
        let unit = UNIT_POS as usize;
        let target = usize::cast_from(targets[row]);
        // In shared memory, so that it is read before another unit writes the gradient there.
        let mut logit = SharedMemory::<S>::new(1usize);
        if unit == 0 {
            let of_target = Vector::<S, N>::cast_from(logits[start + target / N::value()]);
            #[unroll]
            for i in 0..N::value() {
                if i == target % N::value() {
                    logit[0] = of_target[i];
                }
            }
        }

        // Units beyond the row know its first logit, of which nothing is added up.
        let first = Vector::<S, N>::cast_from(logits[start]);
        let mut found = Found::<S> { top: first[0], index: 0u32, sum: S::new(0.0) };
        let mut at = unit;
        while at < vectors {
            let batch = read::<F, N>(logits, start, at, vectors, units);
            #[unroll]
            for i in 0..AT_ONCE {
                let here = at + i * units;
                let end = select(here < vectors, vocab, 0);
                take_in::<S, N>(&mut found, Vector::<S, N>::cast_from(batch[i]), here * N::value(), end);
            }
            at += AT_ONCE * units;
        }
        let found = of_all::<S>(&found, units);
        let lse = S::ln(found.sum) + found.top;
        let weight = S::cast_from(weights[row]);
        if unit == 0 {
            losses[row] = (lse - logit[0]) * weight;
        }

        if with_gradient {
            let pull = found.top * l2_wrap.get::<S>();
            let highest = found.index as usize;
            let mut at = unit;
            while at < vectors {
                let batch = read::<F, N>(logits, start, at, vectors, units);
                #[unroll]
                for i in 0..AT_ONCE {
                    let here = at + i * units;
                    let numbers = Vector::<S, N>::cast_from(batch[i]);
                    let mut gradient = Vector::<F, N>::empty();
                    #[unroll]
                    for j in 0..N::value() {
                        let token = here * N::value() + j;
                        let mut slope = S::exp(numbers[j] - lse);
                        slope -= select(token == target, S::new(1.0), S::new(0.0));
                        slope += select(token == highest, pull, S::new(0.0));
                        gradient[j] = F::cast_from(select(token < vocab, slope * weight, S::new(0.0)));
                    }
                    if here < vectors {
                        logits[start + here] = gradient;
                    }
                }
                at += AT_ONCE * units;
            }
        }
    }
}

/// Asks for some vectors of a row, for the first again in the place of those beyond the row.
#[cube]
fn read<F: Float, N: Size>(
    logits: &Tensor<Vector<F, N>>,
    start: usize,
    first: usize,
    vectors: usize,
    #[comptime] units: usize,
) -> Array<Vector<F, N>> {
    let mut batch = Array::<Vector<F, N>>::new(AT_ONCE);
    #[unroll]
    for i in 0..AT_ONCE {
        let here = first + i * units;
        batch[i] = logits[start + select(here < vectors, here, first)];
    }
    batch
}

/// Takes in the logits of the tokens from `first` that are below `end`.
#[cube]
fn take_in<S: Float, N: Size>(found: &mut Found<S>, logits: Vector<S, N>, first: usize, end: usize) {
    let mut top = found.top;
    #[unroll]
    for i in 0..N::value() {
        let higher = first + i < end && logits[i] > top;
        top = select(higher, logits[i], top);
        found.index = select(higher, (first + i) as u32, found.index);
    }
    found.sum *= under::<S>(found.top, top);
    #[unroll]
    for i in 0..N::value() {
        found.sum += select(first + i < end, under::<S>(logits[i], top), S::new(0.0));
    }
    found.top = top;
}

/// `e^{x − top}`; 1 for `x = top`, which may both be `−∞`.
#[cube]
fn under<S: Float>(x: S, top: S) -> S {
    S::exp(select(x == top, S::new(0.0), x - top))
}

/// What all units of the cube found; every unit must take part. `units` is a power of two.
#[cube]
fn of_all<S: Float>(found: &Found<S>, #[comptime] units: usize) -> Found<S> {
    let mut tops = SharedMemory::<S>::new(units);
    let mut indices = SharedMemory::<u32>::new(units);
    let mut sums = SharedMemory::<S>::new(units);
    let unit = UNIT_POS as usize;
    tops[unit] = found.top;
    indices[unit] = found.index;
    sums[unit] = found.sum;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            let (own, other) = (tops[unit], tops[unit + half]);
            let (index, other_index) = (indices[unit], indices[unit + half]);
            let top = max(own, other);
            sums[unit] = sums[unit] * under::<S>(own, top) + sums[unit + half] * under::<S>(other, top);
            let first = other > own || (other == own && other_index < index);
            indices[unit] = select(first, other_index, index);
            tops[unit] = top;
        }
        sync_cube();
        half /= 2;
    }
    Found::<S> { top: tops[0], index: indices[0], sum: sums[0] }
}
