//! The operations that deserve a kernel of their own, behind one trait over [`Backend`].
//!
//! [`RwkvBackend`] is the only boundary between the model and the hardware: the model calls the functions of this module
//! and never names a backend. Each operation has
//!
//! - a **definition** in plain tensor operations ([`wkv::definition`]), differentiable on every backend: the oracle;
//! - a **portable body** in plain tensor operations, the trait's default, with the analytic backward pass;
//! - an **implementation per backend**: native CPU kernels for `Flex` and `NdArray`, CubeCL kernels for wgpu and CUDA.
//!
//! `Autodiff<B>` records the analytic backward pass of `B`; `Fusion<B>` forwards to `B`.

pub mod wkv;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::FloatTensor;
use wkv::{WkvForward, WkvGradients, WkvInputs, WkvSaved};

/// A Burn backend with RWKV's operations.
///
/// The bodies are portable: a backend that has no kernels joins with an empty `impl`. There is no blanket
/// implementation because it would leave no room for the kernels.
pub trait RwkvBackend: Backend {
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
}

/// A differentiable backend whose inner backend, which evaluation and generation use, has the operations too.
///
/// With this one bound a function may use both `B` and `B::InnerBackend`.
pub trait RwkvAutodiffBackend: AutodiffBackend<InnerBackend: RwkvBackend> + RwkvBackend {}

impl<B: AutodiffBackend<InnerBackend: RwkvBackend> + RwkvBackend> RwkvAutodiffBackend for B {}
