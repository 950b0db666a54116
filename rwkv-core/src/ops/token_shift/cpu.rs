//! Token shift on the CPU: one pass over `x` forward, one over `x` and the gradient backward.

use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{ROWS, kernel, run, sum_rows};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    mu: FloatTensor<B>,
) -> FloatTensor<B> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x, last, mu);
    }
    let (shape, dtype, device) = (x.shape(), x.dtype(), B::float_device(&x));
    let [_, time, width] = shape.dims();
    let [x, last, mu] = [x, last, mu].map(read::<B>);
    let tokens = Tokens { x: x.as_ref(), last: last.as_ref(), time, width };
    let mu = mu.as_ref();
    let mut out = vec![0.0; tokens.x.len()];
    run(Blend, tokens.x.len(), out.chunks_mut(ROWS * width).enumerate(), &(tokens, mu));
    write::<B>(out, shape, dtype, &device)
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    mu: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    if x.dtype() == DType::F64 {
        return super::portable::backward::<B>(x, last, mu, grad);
    }
    let (shape, device) = (x.shape(), B::float_device(&x));
    let dtypes = [x.dtype(), last.dtype(), mu.dtype()];
    let (last_shape, mu_shape) = (last.shape(), mu.shape());
    let [_, time, width] = shape.dims();
    let [x, last, mu, grad] = [x, last, mu, grad].map(read::<B>);
    let tokens = Tokens { x: x.as_ref(), last: last.as_ref(), time, width };
    let (mu, grad) = (mu.as_ref(), grad.as_ref());

    let mut to_x = vec![0.0; grad.len()];
    let mut partial = vec![0.0; grad.len().div_ceil(ROWS * width) * width]; // a row of ∂μ per task
    let tasks = to_x.chunks_mut(ROWS * width).zip(partial.chunks_mut(width)).enumerate();
    run(Spread, grad.len(), tasks, &(tokens, mu, grad));

    let mut to_last = vec![0.0; last.as_ref().len()];
    for (to_last, grad) in to_last.chunks_mut(width).zip(grad.chunks(time * width)) {
        for ((to_last, mu), grad) in to_last.iter_mut().zip(mu).zip(grad) {
            *to_last = (1.0 - mu) * grad;
        }
    }
    [
        write::<B>(to_x, shape, dtypes[0], &device),
        write::<B>(to_last, last_shape, dtypes[1], &device),
        write::<B>(sum_rows(&partial, width), mu_shape, dtypes[2], &device),
    ]
}

/// The tokens of all sequences as rows, `b·T + t`.
struct Tokens<'a> {
    x: &'a [f32],    // [B·T, C]
    last: &'a [f32], // [B, C]
    time: usize,
    width: usize,
}

impl Tokens<'_> {
    /// The token of `row` and its predecessor.
    #[inline(always)]
    fn pair(&self, row: usize) -> (&[f32], &[f32]) {
        let at = row * self.width;
        let previous = match row % self.time {
            0 => &self.last[row / self.time * self.width..][..self.width],
            _ => &self.x[at - self.width..at],
        };
        (&self.x[at..][..self.width], previous)
    }
}

/// The number of a chunk of rows, and what is written of it.
type Chunk<T> = (usize, T);

kernel!(Blend = blend<'a, 'b>((Tokens<'a>, &'a [f32]), Chunk<&'b mut [f32]>));
kernel!(Spread = spread<'a, 'b>((Tokens<'a>, &'a [f32], &'a [f32]), Chunk<(&'b mut [f32], &'b mut [f32])>));

/// `out` of one chunk of rows.
#[inline(always)]
fn blend((tokens, mu): &(Tokens<'_>, &[f32]), (chunk, out): Chunk<&mut [f32]>) {
    let first = chunk * ROWS;
    for (i, out) in out.chunks_mut(tokens.width).enumerate() {
        let (x, previous) = tokens.pair(first + i);
        for (((out, x), previous), mu) in out.iter_mut().zip(x).zip(previous).zip(*mu) {
            *out = previous + (x - previous) * mu;
        }
    }
}

/// `∂x` of one chunk of rows, and these rows' share of `∂μ`.
#[inline(always)]
fn spread((tokens, mu, grad): &(Tokens<'_>, &[f32], &[f32]), (chunk, (to_x, to_mu)): Chunk<(&mut [f32], &mut [f32])>) {
    let (width, first) = (tokens.width, chunk * ROWS);
    for (i, to_x) in to_x.chunks_mut(width).enumerate() {
        let row = first + i;
        let here = &grad[row * width..][..width];
        let (x, previous) = tokens.pair(row);
        for (((to_mu, x), previous), here) in to_mu.iter_mut().zip(x).zip(previous).zip(here) {
            *to_mu += (x - previous) * here;
        }
        if (row + 1).is_multiple_of(tokens.time) {
            for ((to_x, here), mu) in to_x.iter_mut().zip(here).zip(*mu) {
                *to_x = mu * here;
            }
        } else {
            let next = &grad[(row + 1) * width..][..width];
            for (((to_x, here), next), mu) in to_x.iter_mut().zip(here).zip(next).zip(*mu) {
                *to_x = mu * here + (1.0 - mu) * next;
            }
        }
    }
}
