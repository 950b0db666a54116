//! The whole product by the processor's instruction, tile by tile on all threads.

use super::avx512::Avx512Bf16;
use super::{Product, Rounded, WIDTH};
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::{kernel, run};
use crate::ops::packed::PackedMatrix;
use crate::ops::packed::matrix::Numbers;

/// `x·Wᵀ` with `x` rounded to `bf16`, where the processor has the instruction and the weights are `bf16`.
pub(in crate::ops::packed) fn multiply(x: &[f32], weight: &PackedMatrix) -> Option<Vec<f32>> {
    match (weight.numbers(), Avx512Bf16::new()) {
        (Numbers::Bf16(bits), Some(vectors)) => Some(spread(vectors, x, bits, weight.columns())),
        _ => None,
    }
}

pub(super) fn spread(vectors: Avx512Bf16, x: &[f32], weight: &[u16], width: usize) -> Vec<f32> {
    let outputs = weight.len() / width;
    let x = Rounded::new(x, width);
    let mut out = vec![0.0; x.rows * outputs];
    let columns = Columns::new(&mut out, outputs);
    let tiles = weight.chunks(WIDTH * width).enumerate();
    run(Tile, x.rows * weight.len(), tiles, &(vectors, (&x, width, columns)));
    out
}

kernel!(Tile = tile<'a>((Avx512Bf16, Product<'a>), (usize, &'a [u16])));

#[inline(always)]
fn tile((vectors, product): &(Avx512Bf16, Product<'_>), tile: (usize, &[u16])) {
    vectors.tile(product, tile);
}
