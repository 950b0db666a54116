//! A matrix of weights in fewer bits.

use super::pages::Pages;
use std::sync::Arc;

/// How a [`PackedMatrix`] stores its numbers, and what a product with it rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The numbers as they are, in rows of outputs: nothing smaller, but one row of `x` is multiplied at memory's speed.
    F32,
    /// The upper half of an `f32`: 8 bits of exponent, 7 of mantissa. Published checkpoints lose nothing.
    Bf16,
    /// The numbers of [`Bf16`](Self::Bf16), and products on CPUs that round an `f32` `x` to `bf16` too where it has more than four
    /// rows, as PyTorch's do: by AMX or AVX512-BF16 where the processor has one, the same rounding elsewhere.
    Bf16Products,
    /// IEEE half precision: 5 bits of exponent, 10 of mantissa.
    F16,
    /// A signed byte times a scale of its row: `w ≈ q·s` with `q = round(w/s)` and `s = max|w|/127`, off by `s/2` at most.
    Int8,
}

impl Packing {
    /// Whether the packed number is still near this one: `f16` ends at 65,504, and a scale for bytes needs finite numbers.
    #[must_use]
    pub fn holds(self, value: f32) -> bool {
        match self {
            Self::F32 | Self::Bf16 | Self::Bf16Products => true,
            Self::F16 => !value.is_finite() || half::f16::from_f32(value).is_finite(),
            Self::Int8 => value.is_finite(),
        }
    }
}

/// A row-major matrix `[rows, columns]` of weights in fewer bits. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    rows: usize,
    columns: usize,
    packing: Packing,
    numbers: Arc<Numbers>,
}

/// The numbers of a packed matrix, row by row.
#[derive(Debug)]
pub(super) enum Numbers {
    F32(Pages<f32>),
    Bf16(Pages<u16>),
    F16(Pages<u16>),
    Int8 { quants: Pages<i8>, scales: Vec<f32> },
}

impl PackedMatrix {
    /// Packs a matrix that `fill(row, out)` writes row by row, so that no more than a row exists in `f32`.
    #[must_use]
    pub fn pack(packing: Packing, rows: usize, columns: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Self {
        let (mut row, width) = (vec![0.0; columns], columns.max(1));
        let mut halves = |to_bits: fn(f32) -> u16| {
            let mut packed = Pages::zeroed(rows * columns);
            for (i, out) in packed.chunks_exact_mut(width).enumerate() {
                fill(i, &mut row);
                out.iter_mut().zip(&row).for_each(|(out, &x)| *out = to_bits(x));
            }
            packed
        };
        let numbers = match packing {
            Packing::F32 => {
                let mut numbers = Pages::zeroed(rows * columns);
                numbers.chunks_exact_mut(width).enumerate().for_each(|(i, row)| fill(i, row));
                Numbers::F32(numbers)
            }
            Packing::Bf16 | Packing::Bf16Products => Numbers::Bf16(halves(to_bf16)),
            Packing::F16 => Numbers::F16(halves(|x| half::f16::from_f32(x).to_bits())),
            Packing::Int8 => {
                let (mut quants, mut scales) = (Pages::zeroed(rows * columns), vec![0.0; rows]);
                for (i, (out, to_scale)) in quants.chunks_exact_mut(width).zip(&mut scales).enumerate() {
                    fill(i, &mut row);
                    let scale = row.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
                    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
                    out.iter_mut().zip(&row).for_each(|(out, x)| *out = (x * inverse).round() as i8);
                    *to_scale = scale;
                }
                Numbers::Int8 { quants, scales }
            }
        };
        Self { rows, columns, packing, numbers: Arc::new(numbers) }
    }

    /// How it was packed.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Rows: the outputs of a projection, the tokens of an embedding.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the inputs of a projection, the width of an embedding.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The memory that the numbers take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &*self.numbers {
            Numbers::F32(numbers) => 4 * numbers.len(),
            Numbers::Bf16(bits) | Numbers::F16(bits) => 2 * bits.len(),
            Numbers::Int8 { quants, scales } => quants.len() + 4 * scales.len(),
        }
    }

    /// Writes one row as `f32`.
    ///
    /// # Panics
    /// When the matrix has no such row, or `out` is not as long as a row.
    #[inline(always)] // inside the CPU kernels, for the processor's vector instructions
    pub fn unpack_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of a matrix of {} rows", self.rows);
        assert_eq!(out.len(), self.columns, "a row has {} numbers", self.columns);
        let range = row * self.columns..(row + 1) * self.columns;
        match &*self.numbers {
            Numbers::F32(numbers) => out.copy_from_slice(&numbers[range]),
            Numbers::Bf16(bits) => unpack(&bits[range], out, from_bf16),
            Numbers::F16(bits) => unpack(&bits[range], out, from_f16),
            Numbers::Int8 { quants, scales } => unpack(&quants[range], out, |q| f32::from(q) * scales[row]),
        }
    }

    /// The whole matrix as `f32`, row by row.
    #[must_use]
    pub fn unpack(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (row, out) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.unpack_row(row, out);
        }
        values
    }

    #[cfg(feature = "cpu")]
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }
}

#[inline(always)]
fn unpack<T: Copy>(packed: &[T], out: &mut [f32], f: impl Fn(T) -> f32) {
    for (out, &x) in out.iter_mut().zip(packed) {
        *out = f(x);
    }
}

/// A `bf16` is an `f32` without its lower half.
#[inline(always)]
pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest `bf16`, of two the even one. A NaN stays one. Without branches, so that it vectorises.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let nan = (bits >> 16) as u16 | 0x40;
    if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { nearest }
}

/// The smallest normal `f16`, `2⁻¹⁴`.
pub(super) const LEAST_NORMAL_F16: f32 = f32::from_bits(113 << 23);

/// An `f16`'s exponent and mantissa, moved to an `f32`'s places, lack 112 of the exponent. With 224 more the exponent of infinity
/// and NaN is an `f32`'s, and times `2⁻¹¹²` the others are right. What is less than `2⁻¹⁴` has no leading 1: with the next exponent
/// it has, and that is subtracted again. No subnormal `f32` is multiplied, which takes some processors far longer (`BENCHMARKS.md`).
/// Plain arithmetic, so that it vectorises everywhere.
#[inline(always)]
pub(super) fn from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let normal = f32::from_bits(magnitude + (224 << 23)) * f32::from_bits(15 << 23);
    let subnormal = f32::from_bits(magnitude + (113 << 23)) - LEAST_NORMAL_F16;
    let value = if bits & 0x7c00 == 0 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | (u32::from(bits & 0x8000) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (bf16, f16) = (half::bf16::from_bits(bits).to_f32(), half::f16::from_bits(bits).to_f32());
            assert!(from_bf16(bits) == bf16 || bf16.is_nan() && from_bf16(bits).is_nan(), "bf16 {bits:04x}");
            assert!(from_f16(bits) == f16 || f16.is_nan() && from_f16(bits).is_nan(), "f16 {bits:04x}");
            assert_eq!(from_f16(bits).is_sign_negative(), f16.is_sign_negative());
        }
    }

    #[test]
    fn floats_round_to_the_nearest_bf16() {
        // Every upper half with lower halves around the tie.
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(to_bf16(x), half::bf16::from_f32(x).to_bits(), "{:08x}", x.to_bits());
            }
        }
    }

    #[test]
    fn halves_that_fit_come_back_as_they_were() {
        let values: Vec<f32> = (0..35).map(|i| (i as f32 - 17.0) * 0.125).collect();
        for packing in [Packing::F32, Packing::Bf16, Packing::F16] {
            let matrix = PackedMatrix::pack(packing, 5, 7, |row, out| out.copy_from_slice(&values[7 * row..][..7]));
            assert_eq!(matrix.unpack(), values);
            assert_eq!(matrix.bytes(), if packing == Packing::F32 { 140 } else { 70 });
        }
    }

    #[test]
    fn int8_is_off_by_half_a_step_of_its_row() {
        let value = |row: usize, i: usize| ((i * 37 + row * 11) % 101) as f32 * 0.01 * (row as f32 + 0.5) - 0.3;
        let matrix = PackedMatrix::pack(Packing::Int8, 4, 50, |row, out| {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = if row == 3 { 0.0 } else { value(row, i) });
        });
        let mut out = vec![0.0; 50];
        for row in 0..3 {
            matrix.unpack_row(row, &mut out);
            let step = (0..50).map(|i| value(row, i).abs()).fold(0.0, f32::max) / 127.0;
            for (i, x) in out.iter().enumerate() {
                assert!((x - value(row, i)).abs() <= 0.5001 * step);
            }
        }
        matrix.unpack_row(3, &mut out);
        assert_eq!(out, vec![0.0; 50], "a row of zeros has no scale");
    }
}
