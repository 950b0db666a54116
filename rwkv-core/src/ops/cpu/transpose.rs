//! Sixteen vectors of sixteen words, transposed in registers.

use std::arch::x86_64::*;

/// Words of a vector, and vectors.
const ROWS: usize = 16;

/// Rows as columns. In rounds: neighbouring rows, pairs of rows, then whole quarters of vectors.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::ops) fn transposed(rows: &[__m512i; ROWS]) -> [__m512i; ROWS] {
    let mut two = *rows;
    for i in 0..ROWS / 2 {
        let [a, b] = [rows[2 * i], rows[2 * i + 1]];
        two[2 * i] = _mm512_unpacklo_epi32(a, b);
        two[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    // Quarter `q` of `four[4i + j]` is column `4q + j` of rows `4i .. 4i + 4`.
    let mut four = two;
    for i in 0..ROWS / 4 {
        let [low, high, next_low, next_high] = [two[4 * i], two[4 * i + 1], two[4 * i + 2], two[4 * i + 3]];
        four[4 * i] = _mm512_unpacklo_epi64(low, next_low);
        four[4 * i + 1] = _mm512_unpackhi_epi64(low, next_low);
        four[4 * i + 2] = _mm512_unpacklo_epi64(high, next_high);
        four[4 * i + 3] = _mm512_unpackhi_epi64(high, next_high);
    }
    let mut out = four;
    for j in 0..4 {
        let [a, b, c, d] = [four[j], four[4 + j], four[8 + j], four[12 + j]];
        let (even, even_below) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let (odd, odd_below) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[j] = _mm512_shuffle_i32x4::<0x88>(even, even_below);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd_below);
        out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even_below);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_below);
    }
    out
}
