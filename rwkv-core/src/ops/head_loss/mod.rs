//! The head and the loss as one operation, over some positions at a time.

pub mod chunked;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod rows;

pub use rows::LogitRows;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};

/// What the operation takes, as a backend's primitives.
#[derive(Debug, Clone)]
pub struct HeadLossInputs<B: Backend> {
    /// What the head projects, `[N, C]`.
    pub x: FloatTensor<B>,
    /// The head, `[C, V]`.
    pub weight: FloatTensor<B>,
    /// The ids that follow, `[N]`.
    pub targets: IntTensor<B>,
    /// The weight of each in the loss, `[N]`, in `f32`.
    pub weights: FloatTensor<B>,
    /// L2Wrap's factor.
    pub l2_wrap: f32,
    /// Rows whose logits exist at the same time.
    pub chunk: usize,
}

/// `Σ_n weights_n · cross_entropy(x_n·W, target_n)`, with L2Wrap in the gradient, never holding more than `chunk` rows of
/// logits.
///
/// Where gradients are wanted, those of `x` and `W` are computed along with the value, row chunk by row chunk, and kept
/// in the place of the logits: `C` numbers a position instead of `2V`, and no product is computed twice. Logits are in the
/// dtype of `x`; the loss, and all arithmetic between it and them, is in `f32` (`f64` for `f64`).
///
/// # Cost
/// Three products of `2·N·C·V` floating-point operations, and what [`RwkvBackend::losses_of_rows`] reads and writes. A head of a
/// width that the backend's products do not [like](RwkvBackend::width_of_products) is copied once a call, and its
/// gradient once more.
///
/// # Shapes
/// - `x`: `[N, C]`; `weight`: `[C, V]`; `targets`: `[N]`; `weights`: `[N]`, 1 where there are none
/// - returns `[1]`, in nats
///
/// # Panics
/// When the shapes do not fit each other, or `chunk` is 0.
///
/// # Source
/// Reference §4.1; the loss is that of [`crate::loss::training_loss`].
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::ops::head_loss::head_loss;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let x = Tensor::<B, 2>::ones([3, 8], &device);
/// let head = Tensor::<B, 2>::zeros([8, 65], &device);
/// let targets = Tensor::<B, 1, Int>::from_data([1, 2, 3], &device);
/// let loss: f32 = head_loss(x, head, targets, None, 1e-4, 2).into_scalar();
/// assert!((loss - 3.0 * 65f32.ln()).abs() < 1e-4);
/// # }
/// ```
pub fn head_loss<B: RwkvBackend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    weights: Option<Tensor<B, 1>>,
    l2_wrap: f32,
    chunk: usize,
) -> Tensor<B, 1> {
    let ([count, width], [inputs, _]) = (x.dims(), weight.dims());
    assert_eq!(width, inputs, "head_loss: x is {width} wide, the head takes {inputs}");
    assert_eq!(targets.dims(), [count], "head_loss: one target a row");
    assert!(chunk > 0, "head_loss: a chunk of no rows");
    let weights =
        weights.unwrap_or_else(|| Tensor::<B, 1>::ones([count], &x.device()).cast(super::inner_dtype(x.dtype())));
    assert_eq!(weights.dims(), [count], "head_loss: one weight a row");
    let targets = targets.into_primitive();
    let (x, weight, weights) = (primitive(x), primitive(weight), primitive(weights));
    tensor(B::head_loss_forward(HeadLossInputs { x, weight, targets, weights, l2_wrap, chunk }))
}
