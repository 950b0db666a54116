//! The memory of mixers that look at every token again: a slot for each.
//!
//! A cache is `[B, 1 + S, D + 1]`: the last column of a slot is the position of its token, counted from 1. A slot whose
//! position is 0 is empty; the first one always is, states of different lengths are put together with empty slots in front
//! of the shorter ones, and where a row starts anew the slots before are emptied.

use super::mixer::Memory;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

/// The cache before any token, for slots of `size` numbers beside the position.
pub(super) fn empty(size: usize) -> Memory {
    Memory::growing(size + 1)
}

/// The positions of the next tokens, `[B, T, 1]`, counted from 1 in each row's text.
pub(super) fn next_positions<B: Backend>(cache: &Tensor<B, 3>, time: usize) -> Tensor<B, 3> {
    let [_, slots, columns] = cache.dims();
    let before = cache.clone().narrow(1, slots - 1, 1).narrow(2, columns - 1, 1); // [B, 1, 1]
    let count = Tensor::<B, 1, Int>::arange(1..time as i64 + 1, &cache.device()).float().cast(cache.dtype());
    before + count.reshape([1, time, 1])
}

/// The cache with these tokens at its end: `new` is `[B, T, D]`, `positions` `[B, T, 1]`.
pub(super) fn append<B: Backend>(cache: Tensor<B, 3>, new: Vec<Tensor<B, 3>>, positions: Tensor<B, 3>) -> Tensor<B, 3> {
    let slots = Tensor::cat(new.into_iter().chain([positions]).collect(), 2);
    Tensor::cat(vec![cache, slots], 1)
}

/// The slots but the first, which is always empty, cut into what they hold, `[B, S, …]`, and their positions, `[B, S]`.
pub(super) fn slots<B: Backend, const N: usize>(
    cache: &Tensor<B, 3>,
    sizes: [usize; N],
) -> ([Tensor<B, 3>; N], Tensor<B, 2>) {
    let [_, slots, columns] = cache.dims();
    let there = cache.clone().narrow(1, 1, slots - 1);
    let mut start = 0;
    let parts = sizes.map(|size| {
        let part = there.clone().narrow(2, start, size);
        start += size;
        part
    });
    // To two dimensions before any other reshape: Burn 0.21 reads past a narrowed tensor with a last dimension of 1 that it
    // reshapes to more dimensions on GPUs.
    (parts, there.narrow(2, columns - 1, 1).squeeze_dim(2))
}

/// What a query at one of `positions`, `[B, T, 1]`, must not look at, `[B, T, S]`: later tokens, and empty slots.
pub(super) fn hidden<B: Backend>(positions: &Tensor<B, 3>, slots: &Tensor<B, 2>) -> Tensor<B, 3, Bool> {
    let ([batch, time, _], [_, count]) = (positions.dims(), slots.dims());
    let shape = [batch, time, count];
    let slots = slots.clone().reshape([batch, 1, count]).expand(shape);
    slots.clone().greater(positions.clone().expand(shape)).bool_or(slots.equal_elem(0.0))
}
