//! The numbers that are multiplied: an `f32` in three parts, an `f16` in two, a `bf16` or a byte in one.

use super::kernel::ROWS;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Parts that a number is split into, at most.
pub(super) const PARTS: usize = 3;

/// A number that is a sum of a few `bf16`.
///
/// The methods are inlined into functions compiled for AVX-512 (F and BW), and must not be called where it is not.
pub(in crate::ops) trait Number: Copy + Send + Sync + 'static {
    /// How many. Of two numbers those parts are multiplied whose places, from 0 on, add up to less than three.
    const PARTS: usize;

    /// Zero.
    const ZERO: Self;

    /// The parts of 32 neighbouring numbers, each in order.
    ///
    /// # Safety
    /// They may be read, and the processor has AVX-512.
    unsafe fn along(numbers: *const Self, largest: &mut __m512i) -> [__m512i; PARTS];

    /// The parts of sixteen neighbouring numbers at two places: those of the first in the lower halves of the lanes.
    ///
    /// # Safety
    /// As above.
    unsafe fn across(numbers: [*const Self; 2], largest: &mut __m512i) -> [__m512i; PARTS];

    /// Whether all numbers are below 2⁶²: of larger ones, products of parts may be infinite with either sign, and their sum NaN.
    ///
    /// # Safety
    /// The processor has AVX-512.
    unsafe fn are_moderate(largest: __m512i) -> bool;
}

/// The same operations on both halves, for each of three parts; `$join` makes a vector of them.
macro_rules! split {
    ($numbers:expr, $largest:ident, $join:ident) => {{
        let [mut first, mut second] = $numbers;
        let size = _mm512_set1_epi32(0x7fff_ffff);
        *$largest = _mm512_max_epu32(*$largest, _mm512_and_si512(_mm512_castps_si512(first), size));
        *$largest = _mm512_max_epu32(*$largest, _mm512_and_si512(_mm512_castps_si512(second), size));
        let mut parts = [_mm512_setzero_si512(); PARTS];
        for part in &mut parts {
            let rounded = [rounded(first), rounded(second)];
            *part = $join(rounded);
            first = _mm512_sub_ps(first, _mm512_castsi512_ps(rounded[0]));
            second = _mm512_sub_ps(second, _mm512_castsi512_ps(rounded[1]));
        }
        parts
    }};
}

impl Number for f32 {
    const PARTS: usize = 3;
    const ZERO: Self = 0.0;

    #[inline(always)]
    unsafe fn along(numbers: *const f32, largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { split!([_mm512_loadu_ps(numbers), _mm512_loadu_ps(numbers.add(ROWS))], largest, behind) }
    }

    #[inline(always)]
    unsafe fn across([first, second]: [*const f32; 2], largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { split!([_mm512_loadu_ps(first), _mm512_loadu_ps(second)], largest, above) }
    }

    #[inline(always)]
    unsafe fn are_moderate(largest: __m512i) -> bool {
        // SAFETY: the caller's contract.
        unsafe { _mm512_cmpge_epu32_mask(largest, _mm512_set1_epi32(0x5e80_0000)) == 0 }
    }
}

impl Number for bf16 {
    const PARTS: usize = 1;
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    unsafe fn along(numbers: *const bf16, largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { only(_mm512_loadu_si512(numbers.cast()), largest) }
    }

    #[inline(always)]
    unsafe fn across([first, second]: [*const bf16; 2], largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe {
            let first = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()));
            let second = _mm512_cvtepu16_epi32(_mm256_loadu_si256(second.cast()));
            only(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second)), largest)
        }
    }

    #[inline(always)]
    unsafe fn are_moderate(largest: __m512i) -> bool {
        // SAFETY: the caller's contract.
        unsafe { _mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(0x5e80)) == 0 }
    }
}

/// Eleven bits: the third part of an `f32` is zero.
impl Number for f16 {
    const PARTS: usize = 2;
    const ZERO: Self = f16::ZERO;

    #[inline(always)]
    unsafe fn along(numbers: *const f16, largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { split!([from_f16(numbers), from_f16(numbers.add(ROWS))], largest, behind) }
    }

    #[inline(always)]
    unsafe fn across([first, second]: [*const f16; 2], largest: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { split!([from_f16(first), from_f16(second)], largest, above) }
    }

    #[inline(always)]
    unsafe fn are_moderate(largest: __m512i) -> bool {
        // SAFETY: the caller's contract.
        unsafe { f32::are_moderate(largest) }
    }
}

/// Eight bits with the sign.
impl Number for i8 {
    const PARTS: usize = 1;
    const ZERO: Self = 0;

    #[inline(always)]
    unsafe fn along(numbers: *const i8, _: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { whole(behind([from_i8(numbers), from_i8(numbers.add(ROWS))])) }
    }

    #[inline(always)]
    unsafe fn across([first, second]: [*const i8; 2], _: &mut __m512i) -> [__m512i; PARTS] {
        // SAFETY: the caller's contract.
        unsafe { whole(above([from_i8(first), from_i8(second)])) }
    }

    #[inline(always)]
    unsafe fn are_moderate(_: __m512i) -> bool {
        true
    }
}

/// Sixteen of them as `f32`.
///
/// # Safety
/// They may be read, and the processor has AVX-512.
#[inline(always)]
unsafe fn from_f16(numbers: *const f16) -> __m512 {
    // SAFETY: the caller's contract.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(numbers.cast())) }
}

/// Sixteen of them, each as a `bf16` in the upper half of its lane.
///
/// # Safety
/// They may be read, and the processor has AVX-512.
#[inline(always)]
unsafe fn from_i8(numbers: *const i8) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe { _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(numbers.cast())))) }
}

/// A number of one part.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn whole(pairs: __m512i) -> [__m512i; PARTS] {
    // SAFETY: the caller's contract.
    unsafe { [pairs, _mm512_setzero_si512(), _mm512_setzero_si512()] }
}

/// [`whole`], and the largest number's bits.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn only(pairs: __m512i, largest: &mut __m512i) -> [__m512i; PARTS] {
    // SAFETY: the caller's contract.
    unsafe {
        *largest = _mm512_max_epu16(*largest, _mm512_and_si512(pairs, _mm512_set1_epi16(0x7fff)));
        whole(pairs)
    }
}

/// To eight bits, the nearest, of two the one further from zero.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe {
        let half = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
        _mm512_and_si512(half, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()))
    }
}

/// The upper halves of all lanes of the first vector, and behind them those of the second.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn behind([first, second]: [__m512i; 2]) -> __m512i {
    const ODD: [u16; 32] = {
        let (mut odd, mut i) = ([0; 32], 0);
        while i < 32 {
            odd[i] = 2 * i as u16 + 1;
            i += 1;
        }
        odd
    };
    // SAFETY: the caller's contract; the array has the 64 bytes of a vector.
    unsafe { _mm512_permutex2var_epi16(first, _mm512_loadu_si512(ODD.as_ptr().cast()), second) }
}

/// The upper halves of the first vector's lanes below those of the second.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn above([first, second]: [__m512i; 2]) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe { _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(first), second) }
}
