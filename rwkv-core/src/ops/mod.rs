//! RWKV's operations and the trait that gives them an implementation per backend.
//!
//! [`RwkvBackend`] is the only boundary between the model and the hardware: the model calls the functions of this module
//! and never names a backend. Each operation has
//!
//! - a **definition** in plain tensor operations, differentiable on every backend: the oracle;
//! - a **portable body**, the trait's default, with the analytic backward pass, also in plain tensor operations;
//! - an **implementation per backend**: native CPU kernels for `Flex` and `NdArray` for all but the embedding, CubeCL kernels
//!   for wgpu and CUDA for all but the products and the embedding's rows, which are Burn's there.
//!
//! `Autodiff<B>` records the analytic backward pass of `B` (`autodiff.rs`); `Fusion<B>` forwards WKV and the
//! decoding step to `B` (`fusion.rs`) and fuses the plain operations of the others.
//!
//! | operation | computes |
//! |---|---|
//! | [`wkv`](wkv::wkv) | the recurrence over time |
//! | [`token_shift`](token_shift::token_shift) | `μ ⊙ x_t + (1−μ) ⊙ x_{t−1}` |
//! | [`layer_norm`](layer_norm::layer_norm) | `(x − mean)/√(variance + ε) ⊙ γ + β` |
//! | [`gate`](gate::gate) | `σ(r) ⊙ y` |
//! | [`squared_relu`](squared_relu::squared_relu) | `max(x, 0)²` |
//! | [`linear`](linear::linear) | `x·W` |
//! | [`packed_linear`](packed::packed_linear) | `x·Wᵀ` for weights in `f32`, `bf16`, `f16` or `int8` |
//! | [`embedding`](embedding::embedding) | the rows of a table that tokens name |
//! | [`decode`] | one token through the whole of RWKV-4 |
//! | [`cross_entropy`](cross_entropy::cross_entropy) | `ln Σ e^{logits} − logit of the target`, with L2Wrap |
//! | [`adam`](adam::adam) | one update of parameters and their moments, or none where the gradients' norm is no number |
//! | [`sum_of_squares`](sum_of_squares::sum_of_squares) | `Σ x²` over many tensors |
//! | [`head_loss`](head_loss::head_loss) | head and cross-entropy together, over some rows at a time |
//! | [`with_auxiliary`](auxiliary::with_auxiliary) | its input; a second loss joins the gradients |

pub mod adam;
mod autodiff;
pub mod auxiliary;
#[cfg(feature = "cpu")]
mod cpu;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
pub mod decode;
pub mod embedding;
#[cfg(feature = "fusion")]
mod fusion;
pub mod gate;
pub mod head_loss;
pub mod layer_norm;
pub mod linear;
pub mod packed;
pub mod squared_relu;
pub mod sum_of_squares;
pub mod token_shift;
pub mod wkv;

use adam::AdamUpdate;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Tensor, TensorMetadata, TensorPrimitive};
use decode::{DecodeInputs, DecodeOutputs};
use head_loss::{HeadLossInputs, LogitRows};
use packed::PackedMatrix;
use token_shift::TokenShiftGradients;
use wkv::{WkvForward, WkvGradients, WkvInputs, WkvSaved};

/// A Burn backend with RWKV's operations.
///
/// The bodies are portable: a backend that has no kernels joins with an empty `impl`. There is no blanket
/// implementation because it would leave no room for the kernels. Shapes are those of the checked entry of each
/// operation, which is where to call it; a `_backward` returns the gradients of the inputs, in their order.
pub trait RwkvBackend: Backend {
    /// Whether tensors are in main memory. There the weights of a model that only runs are best kept as [`PackedMatrix`]es,
    /// and to read a number costs nothing; elsewhere weights are tensors, and whoever reads a number waits for the device.
    const IN_MAIN_MEMORY: bool = false;

    /// The largest tensor that the device can hold: a limit of some GPUs and drivers, 128 MiB where WebGPU guarantees
    /// no more.
    fn max_tensor_bytes(_device: &Self::Device) -> usize {
        usize::MAX
    }

    /// Does what consists of many operations one after the other, such as a pass through a model. On CPU backends the
    /// threads that share the operations stay awake meanwhile, which makes small ones faster.
    fn burst<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    /// Whether the device has [`Self::decode_step`], which may still refuse inputs.
    fn has_decode_step(_device: &Self::Device) -> bool {
        false
    }

    /// A token through the whole of RWKV-4 in one operation: logits and state as the operations below give them, up to
    /// rounding. Weights are packed in main memory and tensors elsewhere. Nothing where the device has no such operation, or for
    /// inputs that it does not take: in main memory weights that are not packed and streams that are rescaled, elsewhere what
    /// has no [sizes](DecodeInputs::sizes_for_kernels); see [`decode`].
    fn decode_step(_inputs: DecodeInputs<'_, Self>) -> Option<DecodeOutputs<Self>> {
        None
    }

    /// The WKV recurrence over a sequence. With `with_lse` the result also carries what [`Self::wkv_backward`] needs.
    ///
    /// Shapes and dtypes are those of [`WkvInputs`]; [`wkv::wkv`] is the checked entry.
    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        wkv::portable::forward(inputs, with_lse)
    }

    /// Gradients of all five inputs of [`Self::wkv_forward`].
    fn wkv_backward(saved: WkvSaved<Self>, gy: FloatTensor<Self>, adjoint: FloatTensor<Self>) -> WkvGradients<Self> {
        wkv::portable::backward(saved, gy, adjoint)
    }

    /// The operation of [`token_shift::token_shift`]: an output for each of `mu`.
    fn token_shift_forward(
        x: FloatTensor<Self>,
        last: FloatTensor<Self>,
        mu: Vec<FloatTensor<Self>>,
    ) -> Vec<FloatTensor<Self>> {
        token_shift::portable::forward::<Self>(x, last, mu)
    }

    /// Gradients of `x`, `last` and every `μ`; `passed` is each `μ` with the gradient of its output.
    fn token_shift_backward(
        x: FloatTensor<Self>,
        last: FloatTensor<Self>,
        passed: Vec<(FloatTensor<Self>, FloatTensor<Self>)>,
    ) -> TokenShiftGradients<Self> {
        token_shift::portable::backward::<Self>(x, last, passed)
    }

    /// The operation of [`layer_norm::layer_norm`].
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        layer_norm::portable::forward::<Self>(x, weight, bias, epsilon)
    }

    /// Gradients of `x`, `weight` and `bias`.
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        layer_norm::portable::backward::<Self>(x, weight, grad, epsilon)
    }

    /// The operation of [`gate::gate`].
    fn gate_forward(r: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        gate::portable::forward::<Self>(r, y)
    }

    /// Gradients of `r` and `y`.
    fn gate_backward(r: FloatTensor<Self>, y: FloatTensor<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
        gate::portable::backward::<Self>(r, y, grad)
    }

    /// The operation of [`squared_relu::squared_relu`].
    fn squared_relu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        squared_relu::portable::forward::<Self>(x)
    }

    /// The gradient of `x`.
    fn squared_relu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        squared_relu::portable::backward::<Self>(x, grad)
    }

    /// The operation of [`linear::linear`].
    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::portable::forward::<Self>(x, weight)
    }

    /// The gradient of `x`.
    fn linear_backward_x(weight: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::portable::backward_x::<Self>(weight, grad)
    }

    /// The gradient of the weight.
    fn linear_backward_weight(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::portable::backward_weight::<Self>(x, grad)
    }

    /// The operation of [`embedding::embedding`], for tokens `[N]`.
    fn embedding_forward(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        Self::float_select(table, 0, tokens)
    }

    /// The gradient of the table of so many tokens.
    fn embedding_table_backward(tokens: IntTensor<Self>, grad: FloatTensor<Self>, vocab: usize) -> FloatTensor<Self> {
        embedding::portable::backward::<Self>(tokens, grad, vocab)
    }

    /// The operation of [`packed::packed_linear`].
    fn packed_linear_forward(x: FloatTensor<Self>, weight: &PackedMatrix) -> FloatTensor<Self> {
        packed::portable::forward::<Self>(x, weight)
    }

    /// The gradient of `x`; packed weights have none.
    fn packed_linear_backward(weight: &PackedMatrix, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        packed::portable::backward::<Self>(weight, grad)
    }

    /// The operation of [`cross_entropy::cross_entropy`]: the losses, and what [`Self::cross_entropy_backward`] needs,
    /// the logarithms of the softmax's denominators, both `[N]`. L2Wrap is a matter of the gradient alone.
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        _l2_wrap: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cross_entropy::portable::forward::<Self>(logits, targets)
    }

    /// The gradient of the logits, where `grad` is that of the losses.
    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        l2_wrap: f32,
    ) -> FloatTensor<Self> {
        cross_entropy::portable::backward::<Self>(logits, targets, lse, grad, l2_wrap)
    }

    /// The operation of [`adam::adam`]: every parameter and its moments after the update. Not differentiable.
    fn adam(updates: Vec<AdamUpdate<Self>>, norm: FloatTensor<Self>) -> Vec<[FloatTensor<Self>; 3]> {
        adam::portable::updates(updates, &norm)
    }

    /// The operation of [`sum_of_squares::sum_of_squares`]. Not differentiable.
    fn sum_of_squares(tensors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
        sum_of_squares::portable::sum::<Self>(tensors)
    }

    /// How many columns a product with a matrix of so many is best given: as many, or more where memory is read in vectors
    /// that an odd number of columns would break.
    #[must_use]
    fn width_of_products(columns: usize) -> usize {
        columns
    }

    /// What [`head_loss::head_loss`] makes of logits: the losses times their weights, `[N]`, and if wanted the gradient of
    /// their sum with respect to the logits, in their shape and dtype.
    fn losses_of_rows(rows: LogitRows<Self>, wants_gradient: bool) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        head_loss::rows::losses(rows, wants_gradient)
    }

    /// The operation of [`head_loss::head_loss`]. Its body is the same on every backend; with autodiff it brings its
    /// gradients along.
    fn head_loss_forward(inputs: HeadLossInputs<Self>) -> FloatTensor<Self> {
        head_loss::chunked::value(inputs)
    }

    /// The operation of [`auxiliary::with_auxiliary`]: `x`, for the loss matters to gradients alone.
    fn auxiliary_forward(x: FloatTensor<Self>, _loss: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }
}

/// A differentiable backend whose inner backend, which evaluation and generation use, has the operations too.
///
/// With this one bound a function may use both `B` and `B::InnerBackend`.
pub trait RwkvAutodiffBackend: AutodiffBackend<InnerBackend: RwkvBackend> + RwkvBackend {}

impl<B: AutodiffBackend<InnerBackend: RwkvBackend> + RwkvBackend> RwkvAutodiffBackend for B {}

/// The dtype of the arithmetic inside every operation: `f32`, or `f64` for `f64` activations.
#[must_use]
pub fn inner_dtype(activations: DType) -> DType {
    if activations == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A tensor from a backend's primitive.
pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A backend's primitive from a tensor.
pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// A backend's primitive in another dtype; itself where it has that one already.
fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, FloatDType::from(dtype)) }
}
