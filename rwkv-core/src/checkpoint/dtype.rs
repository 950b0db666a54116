//! The number formats of stored tensors, and the way from one to another.

use burn::tensor::{bf16, f16};
use serde::Serialize;

/// The number format of a tensor in a checkpoint; all of them little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileDtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of an `f32`: 8 bits of exponent, 7 of fraction. The published `.pth` files have it.
    Bf16,
}

/// How many numbers [`transcode`] holds in memory at a time.
const CHUNK: usize = 4096;

impl FileDtype {
    /// Bytes per number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name that programs use: `f32`, `f16`, `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Reads as many numbers as `values` has room for; exact, as every format here is a part of `f32`.
    pub(super) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => read::<4>(bytes, values, f32::from_le_bytes),
            Self::F16 => read::<2>(bytes, values, |x| f16::from_le_bytes(x).to_f32()),
            Self::Bf16 => read::<2>(bytes, values, |x| bf16::from_le_bytes(x).to_f32()),
        }
    }

    /// Appends `value`, rounded to nearest even. False when it is finite and this format's largest number is smaller.
    fn encode(self, value: f32, bytes: &mut Vec<u8>) -> bool {
        let rounded = match self {
            Self::F32 => {
                bytes.extend(value.to_le_bytes());
                value
            }
            Self::F16 => {
                let half = f16::from_f32(value);
                bytes.extend(half.to_le_bytes());
                half.to_f32()
            }
            Self::Bf16 => {
                let half = bf16::from_f32(value);
                bytes.extend(half.to_le_bytes());
                half.to_f32()
            }
        };
        rounded.is_finite() || !value.is_finite()
    }
}

fn read<const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = decode(*bytes);
    }
}

/// Why a tensor cannot be written in another format.
#[derive(Debug)]
pub(super) enum TranscodeError<E> {
    /// A number is too large for the format.
    TooLarge(f32),
    /// The writer failed.
    Writer(E),
}

/// Hands a tensor's bytes to `write` in the format `to`, a piece at a time, each number changed by `map`.
pub(super) fn transcode<E>(
    bytes: &[u8],
    from: FileDtype,
    to: FileDtype,
    map: impl Fn(f32) -> f32,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), TranscodeError<E>> {
    let mut values = [0.0; CHUNK];
    let mut out = Vec::with_capacity(CHUNK * to.size());
    for piece in bytes.chunks(CHUNK * from.size()) {
        let values = &mut values[..piece.len() / from.size()];
        from.decode(piece, values);
        out.clear();
        for value in values.iter().map(|&value| map(value)) {
            if !to.encode(value, &mut out) {
                return Err(TranscodeError::TooLarge(value));
            }
        }
        write(&out).map_err(TranscodeError::Writer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(dtype: FileDtype, value: f32) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(dtype.encode(value, &mut bytes));
        bytes
    }

    #[test]
    fn halves_round_to_nearest_even_and_come_back_exactly() {
        assert_eq!(bits(FileDtype::Bf16, 1.0), 0x3f80u16.to_le_bytes());
        assert_eq!(bits(FileDtype::Bf16, 1.0 + 1.0 / 256.0), 0x3f80u16.to_le_bytes(), "a tie goes to the even number");
        assert_eq!(bits(FileDtype::Bf16, 1.0 + 3.0 / 256.0), 0x3f82u16.to_le_bytes());
        assert_eq!(bits(FileDtype::F16, -2.5), 0xc100u16.to_le_bytes());
        for dtype in [FileDtype::F16, FileDtype::Bf16] {
            let every: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut values = vec![0.0; 1 << 16];
            dtype.decode(&every, &mut values);
            for (value, bytes) in values.iter().zip(every.chunks(2)).filter(|(value, _)| !value.is_nan()) {
                assert_eq!(bits(dtype, *value), bytes, "{value}");
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_noticed() {
        let one =
            |value: f32, to| transcode(&value.to_le_bytes(), FileDtype::F32, to, |x| x, |_| Ok::<_, ()>(())).is_ok();
        assert!(one(65504.0, FileDtype::F16) && !one(-65536.0, FileDtype::F16) && one(65536.0, FileDtype::Bf16));
        assert!(one(f32::INFINITY, FileDtype::F16), "what is infinite already stays so");
    }
}
