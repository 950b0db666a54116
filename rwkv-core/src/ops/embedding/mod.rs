//! Rows of the embedding table, and the table's gradient.

#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::{Int, Tensor};

/// The table's row of every token.
///
/// ```text
/// ∂table_i = Σ_{n: token_n = i} grad_n
/// ```
///
/// The gradient is summed in `f32` (`f64` for `f64`) whatever the table holds: in `bf16` the sum over a frequent token would
/// stop growing.
///
/// # Shapes
/// - `table`: `[V, C]`; `tokens`: `[B, T]`, ids below `V`
/// - returns `[B, T, C]`
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::ops::embedding::embedding;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let table = Tensor::<B, 2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device);
/// let tokens = Tensor::<B, 2, Int>::from_data([[1, 0, 1]], &device);
/// let rows: Vec<f32> = embedding(table, tokens).into_data().to_vec().unwrap();
/// assert_eq!(rows, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
/// # }
/// ```
pub fn embedding<B: RwkvBackend>(table: Tensor<B, 2>, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let ([batch, time], [_, width]) = (tokens.dims(), table.dims());
    let tokens = tokens.reshape([batch * time]).into_primitive();
    let rows: Tensor<B, 2> = tensor(B::embedding_forward(primitive(table), tokens));
    rows.reshape([batch, time, width])
}
