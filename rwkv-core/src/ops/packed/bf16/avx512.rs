//! The vectors of AVX-512 with BF16.

use super::{LANES, Pair, Product, Vectors};
use crate::ops::cpu::transpose::transposed;
use std::arch::x86_64::*;

/// Proof that the processor has these instructions.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

impl Avx512Bf16 {
    pub fn new() -> Option<Self> {
        // The compiler may use all that the last of them stands on.
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        all.then_some(Self(()))
    }

    /// [`super::tile`], compiled for these instructions.
    pub fn tile(self, product: &Product<'_>, tile: (usize, &[u16])) {
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        fn compiled(vectors: Avx512Bf16, product: &Product<'_>, tile: (usize, &[u16])) {
            super::tile(vectors, product, tile);
        }
        // SAFETY: `self` exists only where the processor has them all.
        unsafe { compiled(self, product, tile) }
    }
}

// No closures in here: one that is not inlined has no vector instructions.
impl Vectors for Avx512Bf16 {
    type Pairs = __m512i;
    type Sums = __m512;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: `self` exists only where the processor has AVX-512.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, pairs: &[Pair; LANES]) -> __m512i {
        // SAFETY: as above; the array has as many bytes as the vector, and need not be aligned.
        unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
    }

    #[inline(always)]
    fn splat(self, pair: Pair) -> __m512i {
        // SAFETY: as in `zero`.
        unsafe { _mm512_set1_epi32(pair.cast_signed()) }
    }

    #[inline(always)]
    fn dot(self, sums: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: `self` exists only where the processor has AVX512-BF16; the types are of one size, and any bits are numbers
        // of theirs.
        unsafe {
            let [a, b] = [std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)];
            _mm512_dpbf16_ps(sums, a, b)
        }
    }

    #[inline(always)]
    fn store(self, sums: __m512) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: as in `load`.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        out
    }

    #[inline(always)]
    fn transpose(self, rows: &[[Pair; LANES]; LANES]) -> [[Pair; LANES]; LANES] {
        // SAFETY: arrays and vectors are of one size, and any bits are integers of theirs.
        let rows = unsafe { std::mem::transmute::<[[Pair; LANES]; LANES], [__m512i; LANES]>(*rows) };
        // SAFETY: as in `zero`, and as above.
        unsafe { std::mem::transmute(transposed(&rows)) }
    }
}
