//! Numbers in a word of 32 bits, and how they come out of it as `f32`.

use super::matrix::LEAST_NORMAL_F16;
use pulp::Simd;

/// A packing of which a word of 32 bits holds `P` numbers, the first in the lowest bits.
pub(super) trait Word<const P: usize> {
    /// Number `part` of every word, as it is.
    fn numbers<S: Simd>(simd: S, words: S::u32s, part: usize) -> S::f32s;
}

/// A number that is a word.
pub(super) struct F32;

/// Two numbers that are upper halves of `f32`s.
pub(super) struct Bf16;

/// Two numbers in IEEE half precision.
pub(super) struct F16;

/// Four signed bytes.
pub(super) struct Bytes;

impl Word<1> for F32 {
    #[inline(always)]
    fn numbers<S: Simd>(simd: S, words: S::u32s, _: usize) -> S::f32s {
        simd.transmute_f32s_u32s(words)
    }
}

impl Word<2> for Bf16 {
    #[inline(always)]
    fn numbers<S: Simd>(simd: S, words: S::u32s, part: usize) -> S::f32s {
        simd.transmute_f32s_u32s(match part {
            0 => simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)),
            _ => simd.and_u32s(words, simd.splat_u32s(0xffff_0000)),
        })
    }
}

impl Word<2> for F16 {
    /// As [`from_f16`](super::matrix::from_f16), with a comparison of `f32`s, which every processor has.
    #[inline(always)]
    fn numbers<S: Simd>(simd: S, words: S::u32s, part: usize) -> S::f32s {
        let upper = match part {
            0 => simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)),
            _ => words, // what is below is masked out
        };
        let magnitude =
            simd.and_u32s(simd.wrapping_dyn_shr_u32s(upper, simd.splat_u32s(3)), simd.splat_u32s(0x0fff_e000));
        // With 224 more the exponent of infinity is that of an `f32`'s, and times 2⁻¹¹² the others are right.
        let scaled = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, simd.splat_u32s(224 << 23)));
        let value = simd.mul_f32s(scaled, simd.splat_f32s(f32::from_bits(15 << 23)));
        let next = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, simd.splat_u32s(113 << 23)));
        let subnormal = simd.sub_f32s(next, simd.splat_f32s(LEAST_NORMAL_F16));
        let is_subnormal = simd.less_than_f32s(scaled, simd.splat_f32s(f32::from_bits(225 << 23)));
        let bits = simd.transmute_u32s_f32s(simd.select_f32s(is_subnormal, subnormal, value));
        let sign = simd.and_u32s(upper, simd.splat_u32s(0x8000_0000));
        simd.transmute_f32s_u32s(simd.or_u32s(bits, sign))
    }
}

impl Word<4> for Bytes {
    /// The byte `q` with its sign turned is `q + 128`, and that, in the lowest bits of the `f32` 2²³, is `2²³ + 128 + q`.
    #[inline(always)]
    fn numbers<S: Simd>(simd: S, words: S::u32s, part: usize) -> S::f32s {
        let byte = match part {
            0 => words,
            _ => simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(8 * part as u32)),
        };
        let bits = simd.xor_u32s(simd.and_u32s(byte, simd.splat_u32s(0xff)), simd.splat_u32s(0x4b00_0080));
        simd.sub_f32s(simd.transmute_f32s_u32s(bits), simd.splat_f32s(8_388_736.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::with_every_instruction_set;

    /// Number `part` of every word.
    fn all<S: Simd, W: Word<P>, const P: usize>(simd: S, words: &[u32], part: usize) -> Vec<f32> {
        let (vectors, rest) = S::as_simd_u32s(words);
        assert!(rest.is_empty(), "words that fill vectors");
        let mut numbers = vec![0.0; words.len()];
        for (numbers, words) in S::as_mut_simd_f32s(&mut numbers).0.iter_mut().zip(vectors) {
            *numbers = W::numbers(simd, *words, part);
        }
        numbers
    }

    fn numbers_are_right<S: Simd>(name: &str, simd: S) {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        for part in 0..2 {
            let word = |bits: &u16| u32::from(*bits) << (16 * part) | u32::from(!bits) << (16 - 16 * part);
            let words: Vec<u32> = halves.iter().map(word).collect();
            let (bf16, f16) = (all::<S, Bf16, 2>(simd, &words, part), all::<S, F16, 2>(simd, &words, part));
            for ((bits, bf16), f16) in halves.iter().zip(bf16).zip(f16) {
                assert!(
                    same(bf16, half::bf16::from_bits(*bits).to_f32()),
                    "{name}, part {part}: bf16 {bits:04x} is {bf16}"
                );
                assert!(
                    same(f16, half::f16::from_bits(*bits).to_f32()),
                    "{name}, part {part}: f16 {bits:04x} is {f16}"
                );
            }
        }
        for part in 0..4 {
            let word = |byte: i8| 0x5a5a_5a5a & !(0xff << (8 * part)) | u32::from(byte as u8) << (8 * part);
            let words: Vec<u32> = (i8::MIN..=i8::MAX).map(word).collect();
            let right: Vec<f32> = (i8::MIN..=i8::MAX).map(f32::from).collect();
            assert_eq!(all::<S, Bytes, 4>(simd, &words, part), right, "{name}, part {part}");
        }
        let words: Vec<u32> = (0..64).map(|i| (i as f32 - 31.5).to_bits()).collect();
        assert_eq!(all::<S, F32, 1>(simd, &words, 0), Vec::from_iter((0..64).map(|i| i as f32 - 31.5)), "{name}");
    }

    #[test]
    fn every_number_comes_out_as_it_is() {
        with_every_instruction_set!(numbers_are_right);
    }
}
