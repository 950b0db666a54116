//! Numbers in a word of 32 bits, and how they come out of it as `f32`.

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
    /// As [`from_f16`](super::matrix::from_f16) does: exponent and mantissa, moved to an `f32`'s places, are 2¹¹² too small, and from
    /// 2¹⁶ on they mean infinity or NaN, which has all bits of the exponent.
    #[inline(always)]
    fn numbers<S: Simd>(simd: S, words: S::u32s, part: usize) -> S::f32s {
        let upper = match part {
            0 => simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)),
            _ => words, // what is below is masked out
        };
        let magnitude =
            simd.and_u32s(simd.wrapping_dyn_shr_u32s(upper, simd.splat_u32s(3)), simd.splat_u32s(0x0fff_e000));
        let value = simd.mul_f32s(simd.transmute_f32s_u32s(magnitude), simd.splat_f32s(f32::from_bits(0x7780_0000)));
        let bits = simd.transmute_u32s_f32s(value);
        let special = simd.greater_than_or_equal_f32s(value, simd.splat_f32s(65536.0));
        let bits = simd.select_u32s(special, simd.or_u32s(bits, simd.splat_u32s(0x7f80_0000)), bits);
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
    use pulp::Scalar;

    #[test]
    fn every_number_comes_out_as_it_is() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for bits in 0..=u16::MAX {
            for part in 0..2 {
                let word = u32::from(bits) << (16 * part) | u32::from(!bits) << (16 - 16 * part);
                let bf16 = Bf16::numbers(Scalar::new(), word, part);
                assert!(same(bf16, half::bf16::from_bits(bits).to_f32()), "bf16 {bits:04x} in {word:08x} is {bf16}");
                let f16 = F16::numbers(Scalar::new(), word, part);
                assert!(same(f16, half::f16::from_bits(bits).to_f32()), "f16 {bits:04x} in {word:08x} is {f16}");
            }
        }
        for byte in i8::MIN..=i8::MAX {
            for part in 0..4 {
                let word = u32::from_le_bytes([0x5a; 4]) & !(0xff << (8 * part)) | u32::from(byte as u8) << (8 * part);
                assert_eq!(Bytes::numbers(Scalar::new(), word, part), f32::from(byte), "byte {part} of {word:08x}");
            }
        }
        assert_eq!(F32::numbers(Scalar::new(), 0xc049_0fdb, 0), -std::f32::consts::PI);
    }
}
