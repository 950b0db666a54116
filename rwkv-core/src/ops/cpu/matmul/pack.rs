//! Parts of a matrix in the order in which the microkernel reads them.

use super::Matrix;

/// Numbers of a line of memory.
pub(super) const LINE: usize = 16;

/// The matrix in blocks of `W` columns, one behind the other, in the order of the rows; the last one is filled up with zeros.
#[inline(always)]
pub(super) fn pack<'a, const W: usize>(
    matrix: Matrix<'_>,
    memory: &'a mut Vec<f32>,
) -> impl Iterator<Item = &'a [f32]> + Clone {
    // A line more than the block: blocks whose rows all fell into the same sets of a cache would push each other out.
    let block = matrix.rows * W;
    let (blocks, stride) = (matrix.columns.div_ceil(W), block + LINE);
    if memory.len() < blocks * stride + LINE {
        *memory = vec![0.0; blocks * stride + LINE];
    }
    let aligned = memory.as_ptr().align_offset(64).min(LINE);
    let memory = &mut memory[aligned..][..blocks * stride];
    if matrix.column_stride == 1 {
        by_rows::<W>(matrix, memory, stride);
    } else {
        by_columns::<W>(matrix, memory, stride);
    }
    memory.chunks_exact(stride).map(move |numbers| &numbers[..block])
}

/// The matrix's rows lie in memory: each is cut into pieces for the blocks.
#[inline(always)]
fn by_rows<const W: usize>(matrix: Matrix<'_>, memory: &mut [f32], stride: usize) {
    for i in 0..matrix.rows {
        let (whole, rest) = matrix.numbers[i * matrix.row_stride..][..matrix.columns].as_chunks::<W>();
        let mut blocks = memory.chunks_exact_mut(stride).map(|block| &mut block[i * W..][..W]);
        for (numbers, block) in whole.iter().zip(&mut blocks) {
            block.copy_from_slice(numbers);
        }
        if let Some(block) = blocks.next() {
            block[..rest.len()].copy_from_slice(rest);
            block[rest.len()..].fill(0.0);
        }
    }
}

/// The matrix's columns lie in memory. A line of each is read at a time, all of it: where columns are a power of two apart,
/// their lines fall into the same set of a cache, and would not be there any more for the next number.
#[inline(always)]
fn by_columns<const W: usize>(matrix: Matrix<'_>, memory: &mut [f32], stride: usize) {
    debug_assert_eq!(matrix.row_stride, 1, "a matrix has its rows in memory or its columns");
    for (number, block) in memory.chunks_exact_mut(stride).enumerate() {
        let columns = number * W..matrix.columns.min((number + 1) * W);
        let mut lines = [[0.0; LINE]; W];
        for start in (0..matrix.rows).step_by(LINE) {
            let len = LINE.min(matrix.rows - start);
            for (line, column) in lines.iter_mut().zip(columns.clone()) {
                let numbers = &matrix.numbers[column * matrix.column_stride + start..];
                match numbers.first_chunk() {
                    Some(whole) => *line = *whole,
                    None => line[..len].copy_from_slice(&numbers[..len]),
                }
            }
            let (rows, _) = block[start * W..][..len * W].as_chunks_mut::<W>();
            for (i, row) in rows.iter_mut().enumerate() {
                for (number, line) in row.iter_mut().zip(&lines) {
                    *number = line[i];
                }
            }
        }
    }
}
