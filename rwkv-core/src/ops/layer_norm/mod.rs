//! Layer normalisation over the channels of every token.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

/// `(x − mean)/√(variance + ε) ⊙ weight + bias`, with mean and (biased) variance over the last dimension.
///
/// # Shapes
/// - `x`: `[…, C]`
/// - `weight`, `bias`: `[C]`
/// - returns `[…, C]`, in the dtype of `x`; the arithmetic is `f32`
///
/// # Panics
/// When the shapes do not fit each other.
///
/// # Source
/// `torch.nn.LayerNorm`, as the official code uses it.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let x = Tensor::<B, 2>::from_data([[1.0, 3.0], [-5.0, 5.0]], &device);
/// let (weight, bias) = (Tensor::ones([2], &device), Tensor::zeros([2], &device));
/// let out: Vec<f32> = rwkv_core::ops::layer_norm::layer_norm(x, weight, bias, 1e-5).into_data().to_vec().unwrap();
/// assert!(out.iter().zip([-1.0, 1.0, -1.0, 1.0]).all(|(got, want)| (got - want).abs() < 1e-4));
/// # }
/// ```
pub fn layer_norm<B: RwkvBackend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let width = x.dims()[D - 1];
    assert_eq!(weight.dims(), [width], "layer_norm: weight does not fit x of shape {:?}", x.dims());
    assert_eq!(bias.dims(), [width], "layer_norm: bias does not fit x of shape {:?}", x.dims());
    tensor(B::layer_norm_forward(primitive(x), primitive(weight), primitive(bias), epsilon))
}
