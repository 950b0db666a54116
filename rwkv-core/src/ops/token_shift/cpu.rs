//! Token shift on the CPU: one pass over `x` forward, one over `x` and the gradient backward.

use super::TokenShiftGradients;
use crate::ops::cpu::fresh::{Fresh, Part};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::{ROWS, kernel, run, sum_rows};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

pub(in crate::ops) fn forward<B: CpuBackend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    mu: Vec<FloatTensor<B>>,
) -> Vec<FloatTensor<B>> {
    if x.dtype() == DType::F64 {
        return super::portable::forward::<B>(x, last, mu);
    }
    let (shape, dtype, device) = (x.shape(), x.dtype(), B::float_device(&x));
    let [_, time, width] = shape.dims();
    let [x, last] = [x, last].map(read::<B>);
    let mu: Vec<_> = mu.into_iter().map(read::<B>).collect();
    let tokens = Tokens { x: x.as_ref(), last: last.as_ref(), time, width };
    let mu: Vec<&[f32]> = mu.iter().map(AsRef::as_ref).collect();
    let mut outputs: Vec<_> = mu.iter().map(|_| Fresh::new(tokens.x.len())).collect();
    let elements = outputs.len() * tokens.x.len();
    run(
        Blend,
        elements,
        side_by_side(outputs.iter_mut().map(|out| out.parts(ROWS * width))).enumerate(),
        &(tokens, &mu),
    );
    outputs.into_iter().map(|out| write::<B>(out.into_vec(), shape.clone(), dtype, &device)).collect()
}

pub(in crate::ops) fn backward<B: CpuBackend>(
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    passed: Vec<(FloatTensor<B>, FloatTensor<B>)>,
) -> TokenShiftGradients<B> {
    if x.dtype() == DType::F64 {
        return super::portable::backward::<B>(x, last, passed);
    }
    let (shape, device, dtypes) = (x.shape(), B::float_device(&x), [x.dtype(), last.dtype()]);
    let last_shape = last.shape();
    let of_mu: Vec<_> = passed.iter().map(|(mu, _)| (mu.shape(), mu.dtype())).collect();
    let [_, time, width] = shape.dims();
    let [x, last] = [x, last].map(read::<B>);
    let passed: Vec<_> = passed.into_iter().map(|(mu, grad)| (read::<B>(mu), read::<B>(grad))).collect();
    let tokens = Tokens { x: x.as_ref(), last: last.as_ref(), time, width };
    let passed: Vec<Passed<'_>> = passed.iter().map(|(mu, grad)| (mu.as_ref(), grad.as_ref())).collect();

    let mut to_x = Fresh::new(tokens.x.len());
    let groups = tokens.x.len().div_ceil(ROWS * width);
    let mut partial: Vec<_> = passed.iter().map(|_| vec![0.0; groups * width]).collect(); // a row of each ∂μ per task
    let elements = passed.len() * tokens.x.len();
    let tasks =
        to_x.parts(ROWS * width).zip(side_by_side(partial.iter_mut().map(|rows| rows.chunks_mut(width)))).enumerate();
    run(Spread, elements, tasks, &(tokens, &passed));

    let mut to_last = vec![0.0; last.as_ref().len()];
    for (mu, grad) in &passed {
        for (to_last, grad) in to_last.chunks_mut(width).zip(grad.chunks(time * width)) {
            for ((to_last, mu), grad) in to_last.iter_mut().zip(*mu).zip(grad) {
                *to_last += (1.0 - mu) * grad;
            }
        }
    }
    let to_mu = partial.iter().zip(of_mu);
    TokenShiftGradients {
        x: write::<B>(to_x.into_vec(), shape, dtypes[0], &device),
        last: write::<B>(to_last, last_shape, dtypes[1], &device),
        mu: to_mu.map(|(rows, (shape, dtype))| write::<B>(sum_rows(rows, width), shape, dtype, &device)).collect(),
    }
}

/// The first chunks of all tensors, then the second ones, and so on.
fn side_by_side<T>(tensors: impl Iterator<Item: Iterator<Item = T>>) -> std::vec::IntoIter<Vec<T>> {
    let mut chunks: Vec<_> = tensors.collect();
    let mut groups = Vec::new();
    loop {
        let group: Vec<_> = chunks.iter_mut().filter_map(Iterator::next).collect();
        if group.is_empty() {
            return groups.into_iter();
        }
        groups.push(group);
    }
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

/// A `μ` and the gradient of its output.
type Passed<'a> = (&'a [f32], &'a [f32]);

/// The number of a chunk of rows, and what is written of it.
type Chunk<T> = (usize, T);

kernel!(Blend = blend<'a, 'b>((Tokens<'a>, &'a Vec<&'a [f32]>), Chunk<Vec<Part<'b>>>));
kernel!(Spread = spread<'a, 'b>((Tokens<'a>, &'a Vec<Passed<'a>>), Chunk<(Part<'b>, Vec<&'b mut [f32]>)>));

/// The outputs of one chunk of rows, row by row: what all of them read is in the cache then.
#[inline(always)]
fn blend((tokens, mu): &(Tokens<'_>, &Vec<&[f32]>), (chunk, outputs): Chunk<Vec<Part<'_>>>) {
    let mut outputs: Vec<_> = outputs.into_iter().map(Part::clear).collect();
    let (width, first) = (tokens.width, chunk * ROWS);
    for row in 0..outputs[0].len() / width {
        let (x, previous) = tokens.pair(first + row);
        for (out, mu) in outputs.iter_mut().zip(mu.iter()) {
            let out = &mut out[row * width..][..width];
            for (((out, x), previous), mu) in out.iter_mut().zip(x).zip(previous).zip(*mu) {
                *out = previous + (x - previous) * mu;
            }
        }
    }
}

/// `∂x` of one chunk of rows, and these rows' share of every `∂μ`.
#[inline(always)]
fn spread(
    (tokens, passed): &(Tokens<'_>, &Vec<Passed<'_>>),
    (chunk, (to_x, mut to_mu)): Chunk<(Part<'_>, Vec<&mut [f32]>)>,
) {
    let (width, first) = (tokens.width, chunk * ROWS);
    for (i, to_x) in to_x.clear().chunks_mut(width).enumerate() {
        let row = first + i;
        let (x, previous) = tokens.pair(row);
        let is_last = (row + 1).is_multiple_of(tokens.time);
        for ((mu, grad), to_mu) in passed.iter().zip(to_mu.iter_mut()) {
            let here = &grad[row * width..][..width];
            for (((to_mu, x), previous), here) in to_mu.iter_mut().zip(x).zip(previous).zip(here) {
                *to_mu += (x - previous) * here;
            }
            if is_last {
                for ((to_x, here), mu) in to_x.iter_mut().zip(here).zip(*mu) {
                    *to_x += mu * here;
                }
            } else {
                let next = &grad[(row + 1) * width..][..width];
                for (((to_x, here), next), mu) in to_x.iter_mut().zip(here).zip(next).zip(*mu) {
                    *to_x += mu * here + (1.0 - mu) * next;
                }
            }
        }
    }
}
