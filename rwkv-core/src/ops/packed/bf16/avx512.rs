//! The vectors of AVX-512 with BF16.

use super::{LANES, Pair, Product, Vectors};
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

    /// In rounds: neighbouring rows, pairs of rows, then whole quarters of vectors.
    #[inline(always)]
    fn transpose(self, rows: &[[Pair; LANES]; LANES]) -> [[Pair; LANES]; LANES] {
        // SAFETY: as in `zero`.
        unsafe {
            let mut two = [_mm512_setzero_si512(); LANES];
            for i in 0..LANES / 2 {
                let [a, b] = [self.load(&rows[2 * i]), self.load(&rows[2 * i + 1])];
                two[2 * i] = _mm512_unpacklo_epi32(a, b);
                two[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
            }
            // Quarter `q` of `four[4i + j]` is column `4q + j` of rows `4i .. 4i + 4`.
            let mut four = two;
            for i in 0..LANES / 4 {
                let [low, high, next_low, next_high] = [two[4 * i], two[4 * i + 1], two[4 * i + 2], two[4 * i + 3]];
                four[4 * i] = _mm512_unpacklo_epi64(low, next_low);
                four[4 * i + 1] = _mm512_unpackhi_epi64(low, next_low);
                four[4 * i + 2] = _mm512_unpacklo_epi64(high, next_high);
                four[4 * i + 3] = _mm512_unpackhi_epi64(high, next_high);
            }
            let mut out = [[0; LANES]; LANES];
            for j in 0..4 {
                let [a, b, c, d] = [four[j], four[4 + j], four[8 + j], four[12 + j]];
                let (even, even_below) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
                let (odd, odd_below) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
                out[j] = bits(_mm512_shuffle_i32x4::<0x88>(even, even_below));
                out[4 + j] = bits(_mm512_shuffle_i32x4::<0x88>(odd, odd_below));
                out[8 + j] = bits(_mm512_shuffle_i32x4::<0xdd>(even, even_below));
                out[12 + j] = bits(_mm512_shuffle_i32x4::<0xdd>(odd, odd_below));
            }
            out
        }
    }
}

#[inline(always)]
fn bits(vector: __m512i) -> [Pair; LANES] {
    // SAFETY: both are 64 bytes, any of which are integers.
    unsafe { std::mem::transmute(vector) }
}
