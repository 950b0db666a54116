//! Weights in main memory, laid out for running and in as many bits as wanted: products with a matrix stored as `f32`, `bf16`,
//! `f16` or `int8`.
//!
//! Reading the weights is what a token costs on a CPU, so halving or quartering them nearly halves or quarters its time.
//! All arithmetic stays `f32`, unless [`Packing::Bf16Products`] asks for products of `bf16`.

#[cfg(all(feature = "cpu", any(test, target_arch = "x86_64")))]
mod bf16;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cpu")]
pub(super) mod dots;
mod matrix;
mod pages;
pub mod portable;
#[cfg(feature = "cpu")]
mod word;

pub use matrix::{PackedMatrix, Packing};

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// `x·Wᵀ` for a packed `W`.
///
/// # Shapes
/// - `x`: `[…, in]`
/// - `weight`: `[out, in]`
/// - returns `[…, out]`, in the dtype of `x`
///
/// # Panics
/// When `x` has another width than `weight`.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::packed::{PackedMatrix, Packing, packed_linear};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let weight = PackedMatrix::pack(Packing::Bf16, 2, 3, |row, out| out.fill(row as f32 + 1.0));
/// let x = Tensor::<B, 2>::from_data([[1.0, 2.0, 3.0]], &Default::default());
/// let y: Vec<f32> = packed_linear(x, &weight).into_data().to_vec().unwrap();
/// assert_eq!(y, [6.0, 12.0]);
/// # }
/// ```
pub fn packed_linear<B: RwkvBackend, const D: usize>(x: Tensor<B, D>, weight: &PackedMatrix) -> Tensor<B, D> {
    assert_eq!(x.dims()[D - 1], weight.columns(), "packed_linear: x of shape {:?} does not fit the weight", x.dims());
    tensor(B::packed_linear_forward(primitive(x), weight))
}

/// Rows of a packed table, as an embedding looks them up.
///
/// # Shapes
/// - `table`: `[V, C]`
/// - `rows`: `[B, T]`, indices below `V`
/// - returns `[B, T, C]`, in `f32`
///
/// # Panics
/// When an index is not below `V`.
pub fn packed_rows<B: Backend>(table: &PackedMatrix, rows: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let ([batch, time], device) = (rows.dims(), rows.device());
    let width = table.columns();
    let mut values = vec![0.0; batch * time * width];
    for (row, out) in rows.into_data().iter::<i64>().zip(values.chunks_exact_mut(width)) {
        table.unpack_row(row as usize, out);
    }
    Tensor::from_data(TensorData::new(values, [batch, time, width]), &device)
}
