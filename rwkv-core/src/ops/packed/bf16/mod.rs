//! Products of `bf16` with `bf16`, summed in `f32`, by AVX512-BF16: an instruction multiplies and adds two numbers a lane,
//! so a processor that has it does up to twice the `f32` products.
//!
//! # Cost
//! A task takes 32 rows of the weights, a block of their columns at a time, and lays them out as the instruction wants
//! them: pairs of one column pair side by side. That is a move for each pair of weights, and is used for all rows of `x`.
//! The inner loop keeps 8 × 32 sums in 16 registers; for 16 instructions it reads 128 bytes of weights and 32 of `x`.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod processor;

#[cfg(target_arch = "x86_64")]
pub(super) use processor::multiply;

use super::matrix::to_bf16;
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::{kernel, run};

/// Lanes of a vector of sums.
const LANES: usize = 16;

/// Rows of `x` that the inner loop multiplies at once.
const ROWS: usize = 8;

/// Rows of the weights that it multiplies at once.
const WIDTH: usize = 2 * LANES;

/// Pairs of columns of a block: its weights take 64 KiB, a part of the second cache, and a sum of the sums of blocks is more
/// exact than one long sum.
const DEPTH: usize = 512;

/// Two neighbouring numbers of a row.
type Pair = u32;

/// The vectors that the inner loop needs.
trait Vectors: Copy {
    /// Pairs, a lane each.
    type Pairs: Copy;
    /// Sums, a lane each.
    type Sums: Copy;

    fn zero(self) -> Self::Sums;
    fn load(self, pairs: &[Pair; LANES]) -> Self::Pairs;
    fn splat(self, pair: Pair) -> Self::Pairs;
    /// `sums + Σ a·b` over the two numbers of each lane.
    fn dot(self, sums: Self::Sums, a: Self::Pairs, b: Self::Pairs) -> Self::Sums;
    fn store(self, sums: Self::Sums) -> [f32; LANES];
    fn transpose(self, rows: &[[Pair; LANES]; LANES]) -> [[Pair; LANES]; LANES];
}

/// `x` in `bf16`, in groups of [`ROWS`] rows whose pairs lie side by side. Rows and numbers that fill no group and no pair
/// are zeros.
struct Rounded {
    pairs: Vec<[Pair; ROWS]>,
    /// Pairs of a row.
    depth: usize,
    rows: usize,
}

impl Rounded {
    fn new(x: &[f32], width: usize) -> Self {
        let (depth, rows) = (width.div_ceil(2), x.len() / width);
        let mut pairs = vec![[0; ROWS]; rows.div_ceil(ROWS) * depth];
        let groups = pairs.chunks_exact_mut(depth).zip(x.chunks(ROWS * width));
        run(Rounding, x.len(), groups, &width);
        Self { pairs, depth, rows }
    }
}

kernel!(Rounding = round<'a>(usize, (&'a mut [[Pair; ROWS]], &'a [f32])));

#[inline(always)]
fn round(&width: &usize, (group, x): (&mut [[Pair; ROWS]], &[f32])) {
    let mut halves = vec![0; 2 * group.len()];
    for (row, x) in x.chunks_exact(width).enumerate() {
        for (half, x) in halves.iter_mut().zip(x) {
            *half = to_bf16(*x);
        }
        for (pairs, pair) in group.iter_mut().zip(halves.as_chunks().0) {
            pairs[row] = to_pair(*pair);
        }
    }
}

#[inline(always)]
fn to_pair(numbers: [u16; 2]) -> Pair {
    bytemuck::cast(numbers)
}

/// `x`, its width, and the product.
type Product<'a> = (&'a Rounded, usize, Columns<'a>);

/// The columns of the product that up to [`WIDTH`] rows of weights make: those of tile `number`.
#[inline(always)]
fn tile<V: Vectors>(vectors: V, (x, width, out): &Product<'_>, (number, weight): (usize, &[u16])) {
    let mut panel = vec![[[0; LANES]; 2]; x.depth.min(DEPTH)];
    let outputs = weight.len() / width;
    for start in (0..x.depth).step_by(DEPTH) {
        let depth = DEPTH.min(x.depth - start);
        let panel = &mut panel[..depth];
        lay_out(vectors, panel, weight, *width, 2 * start);
        for (group, pairs) in x.pairs.chunks_exact(x.depth).enumerate() {
            let sums = dots(vectors, &pairs[start..start + depth], panel);
            for (row, sums) in (group * ROWS..x.rows).zip(sums) {
                let sums = [vectors.store(sums[0]), vectors.store(sums[1])];
                // SAFETY: this task alone owns the columns of its tile, and the slice ends with the turn of the loop.
                let out = unsafe { out.row(row, number * WIDTH, outputs) };
                for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
                    *out += sum;
                }
            }
        }
    }
}

/// Columns `from ..` of the weights as pairs: of each column pair, those of all rows. Lanes without a row are zeros.
#[inline(always)]
fn lay_out<V: Vectors>(vectors: V, panel: &mut [[[Pair; LANES]; 2]], weight: &[u16], width: usize, from: usize) {
    for (half, rows) in weight.chunks(LANES * width).enumerate() {
        for (i, steps) in panel.chunks_mut(LANES).enumerate() {
            let mut block = [[0; LANES]; LANES];
            for (pairs, row) in block.iter_mut().zip(rows.chunks_exact(width)) {
                *pairs = pairs_of(&row[from + 2 * LANES * i..]);
            }
            for (step, pairs) in steps.iter_mut().zip(vectors.transpose(&block)) {
                step[half] = pairs;
            }
        }
    }
}

/// The first pairs of a part of a row; zeros follow its end.
#[inline(always)]
fn pairs_of(row: &[u16]) -> [Pair; LANES] {
    if let Some(whole) = row.first_chunk::<{ 2 * LANES }>() {
        return bytemuck::cast(*whole);
    }
    let mut numbers = [0; 2 * LANES];
    numbers[..row.len()].copy_from_slice(row);
    bytemuck::cast(numbers)
}

/// The inner products of a group's rows with the panel's rows of weights.
#[inline(always)]
fn dots<V: Vectors>(vectors: V, x: &[[Pair; ROWS]], panel: &[[[Pair; LANES]; 2]]) -> [[V::Sums; 2]; ROWS] {
    let mut sums = [[vectors.zero(); 2]; ROWS];
    for (x, [left, right]) in x.iter().zip(panel) {
        let (left, right) = (vectors.load(left), vectors.load(right));
        let mut next = sums;
        for row in 0..ROWS {
            let x = vectors.splat(x[row]);
            next[row] = [vectors.dot(sums[row][0], left, x), vectors.dot(sums[row][1], right, x)];
        }
        sums = next;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::matrix::from_bf16;
    use super::*;

    /// The same in plain arithmetic.
    #[derive(Clone, Copy)]
    struct Portable;

    impl Vectors for Portable {
        type Pairs = [Pair; LANES];
        type Sums = [f32; LANES];

        fn zero(self) -> [f32; LANES] {
            [0.0; LANES]
        }

        fn load(self, pairs: &[Pair; LANES]) -> [Pair; LANES] {
            *pairs
        }

        fn splat(self, pair: Pair) -> [Pair; LANES] {
            [pair; LANES]
        }

        fn dot(self, sums: [f32; LANES], a: [Pair; LANES], b: [Pair; LANES]) -> [f32; LANES] {
            std::array::from_fn(|i| {
                let [a, b]: [[u16; 2]; 2] = [bytemuck::cast(a[i]), bytemuck::cast(b[i])];
                a.iter().zip(b).fold(sums[i], |sum, (a, b)| sum + from_bf16(*a) * from_bf16(b))
            })
        }

        fn store(self, sums: [f32; LANES]) -> [f32; LANES] {
            sums
        }

        fn transpose(self, rows: &[[Pair; LANES]; LANES]) -> [[Pair; LANES]; LANES] {
            std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
        }
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 506.0 - 1.0).collect()
    }

    /// The largest error of `product` beside the sum of the sizes of what is added, over shapes with and without rests.
    fn largest_error(product: impl Fn(&[f32], &[u16], usize) -> Vec<f32>) -> f64 {
        let mut largest = 0.0f64;
        for (rows, width, outputs) in [(1, 1, 1), (8, 32, 32), (5, 63, 33), (17, 64, 70), (9, 4099, 20), (16, 8192, 40)]
        {
            let x = numbers(rows * width, 1);
            let weight: Vec<u16> = numbers(outputs * width, 2).into_iter().map(to_bf16).collect();
            let out = product(&x, &weight, width);
            assert_eq!(out.len(), rows * outputs);
            for (i, out) in out.iter().enumerate() {
                let (x, weight) = (&x[i / outputs * width..], &weight[i % outputs * width..]);
                let terms = x.iter().zip(weight).take(width);
                let terms = terms.map(|(x, w)| f64::from(from_bf16(to_bf16(*x))) * f64::from(from_bf16(*w)));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                largest = largest.max((f64::from(*out) - sum).abs() / size.max(1e-3));
            }
        }
        largest
    }

    #[test]
    fn tiles_are_those_of_the_definition() {
        let error = largest_error(|x, weight, width| {
            let outputs = weight.len() / width;
            let x = Rounded::new(x, width);
            let mut out = vec![0.0; x.rows * outputs];
            let product = (&x, width, Columns::new(&mut out, outputs));
            weight.chunks(WIDTH * width).enumerate().for_each(|part| tile(Portable, &product, part));
            out
        });
        println!("products in bf16: largest error {error:.2e} of the terms");
        assert!(error < 3e-6);
    }

    /// Runs where the processor has the instruction, and says so where it has not.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_processor_computes_the_same() {
        let Some(vectors) = avx512::Avx512Bf16::new() else {
            println!("SKIPPED: this processor has no AVX512-BF16");
            return;
        };
        let rows = std::array::from_fn(|i| std::array::from_fn(|j| (100 * i + j) as Pair));
        assert_eq!(vectors.transpose(&rows), Portable.transpose(&rows));
        let error = largest_error(|x, weight, width| processor::spread(vectors, x, weight, width));
        println!("products in bf16 by the processor: largest error {error:.2e} of the terms");
        assert!(error < 3e-6);
    }
}
