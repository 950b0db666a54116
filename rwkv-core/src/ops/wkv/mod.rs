//! WKV: RWKV-4's attention-like operation, an exponentially decaying weighted average over time.
//!
//! For every batch row and channel, with `w = −exp(time_decay) < 0` and `u = time_first`,
//!
//! ```text
//!        Σ_{i<t} e^{(t−1−i)w + k_i} v_i + e^{u+k_t} v_t       A_{t−1} + e^{u+k_t} v_t
//! y_t = ------------------------------------------------- =  ------------------------
//!        Σ_{i<t} e^{(t−1−i)w + k_i}     + e^{u+k_t}           B_{t−1} + e^{u+k_t}
//!
//! A_t = e^w A_{t−1} + e^{k_t} v_t,    B_t = e^w B_{t−1} + e^{k_t}
//! ```
//!
//! The state (A, B) is kept as `(a, b, p)` with `A = a·eᵖ`, `B = b·eᵖ` and `p` large enough that nothing overflows, at
//! any `k`. The three numbers are not unique: only `a·eᵖ` and `b·eᵖ` mean something, so gradients are those of functions
//! of these two (the gradient of `p` follows from the others, and an arriving one adds nothing).
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the public function [`wkv`], shapes and checks |
//! | `definition.rs` | the recurrence in plain tensor operations: the oracle |
//! | `portable.rs` | default bodies: forward with the log-denominators, single-sweep backward |
//! | `autodiff.rs` | the analytic backward as nodes of Burn's graph |
//! | `cpu/` | native kernels for the two CPU backends |
//! | `cube/` | CubeCL kernels and their launch, for wgpu and CUDA |
//!
//! # Source
//! Paper eq. 14 and eq. 19–32 (appendix on the recurrence); both passes are derived in [`derivation`].

pub(super) mod autodiff;
#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub mod cube;
pub mod definition;
pub mod derivation {
    #![doc = include_str!("../../../docs/wkv.md")]
}
pub mod portable;

use super::{RwkvBackend, inner_dtype, primitive, tensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor};

/// Exponent of the empty state: so small that its weight is exactly 0 next to any token, yet finite, because `−∞` would
/// turn into NaN when two of them meet.
pub const EMPTY_EXPONENT: f32 = -1e38;

/// What [`RwkvBackend::wkv_forward`] reads.
///
/// `k` and `v` have the activations' dtype; the rest has the state's ([`inner_dtype`]), so that long sums stay exact.
#[derive(Debug, Clone)]
pub struct WkvInputs<B: Backend> {
    /// Log-decay per step, `−exp(time_decay)`, `[C]`.
    pub w: FloatTensor<B>,
    /// Bonus of the current token, `time_first`, `[C]`.
    pub u: FloatTensor<B>,
    /// Keys, `[B, T, C]`.
    pub k: FloatTensor<B>,
    /// Values, `[B, T, C]`.
    pub v: FloatTensor<B>,
    /// State before the first token, `(a, b, p)`, `[B, 3, C]`.
    pub state: FloatTensor<B>,
}

/// What [`RwkvBackend::wkv_forward`] returns.
#[derive(Debug, Clone)]
pub struct WkvForward<B: Backend> {
    /// Outputs, `[B, T, C]`, in the dtype of `k`.
    pub y: FloatTensor<B>,
    /// State after the last token, `[B, 3, C]`.
    pub state: FloatTensor<B>,
    /// `ln(B_{t−1} + e^{u+k_t})`, the outputs' log-denominators, `[B, T, C]`, in the state's dtype, if asked for. With
    /// `y` it is all that the backward pass needs beyond the inputs.
    pub lse: Option<FloatTensor<B>>,
}

/// What [`RwkvBackend::wkv_backward`] needs from the forward pass.
#[derive(Debug, Clone)]
pub struct WkvSaved<B: Backend> {
    /// The inputs.
    pub inputs: WkvInputs<B>,
    /// The outputs, `[B, T, C]`.
    pub y: FloatTensor<B>,
    /// Their log-denominators, `[B, T, C]`.
    pub lse: FloatTensor<B>,
}

/// Gradients of [`WkvInputs`], field by field.
#[derive(Debug, Clone)]
pub struct WkvGradients<B: Backend> {
    /// Of `w`, `[C]`, summed over the batch. The chain rule of `w = −exp(time_decay)` is the caller's.
    pub w: FloatTensor<B>,
    /// Of `u`, `[C]`, summed over the batch.
    pub u: FloatTensor<B>,
    /// Of `k`, `[B, T, C]`.
    pub k: FloatTensor<B>,
    /// Of `v`, `[B, T, C]`.
    pub v: FloatTensor<B>,
    /// Of the initial state's `(a, b, p)`, `[B, 3, C]`.
    pub state: FloatTensor<B>,
}

/// The WKV operation: outputs and the state after the last token.
///
/// Uses the backend's kernel, forward and backward. Any `T ≥ 1`; cutting a sequence anywhere and handing the state on
/// gives the same outputs and gradients.
///
/// # Shapes
/// - `time_decay`, `time_first`: `[C]`, the model's raw parameters (the decay is `w = −exp(time_decay)`)
/// - `k`, `v`: `[B, T, C]`
/// - `state`: `[B, 3, C]`, rows `(a, b, p)`; see [`empty_state`]
/// - returns `([B, T, C], [B, 3, C])`
///
/// # Panics
/// When shapes disagree or a dimension is zero.
///
/// # Source
/// Paper eq. 14; `RWKV_TimeMix` and the CUDA kernel of the official `RWKV-v4neo`.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::wkv::{empty_state, wkv};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let k = Tensor::<B, 3>::from_data([[[0.1], [-2.0], [1.5], [0.3]]], &device);
/// let v = Tensor::<B, 3>::from_data([[[1.0], [-0.5], [2.0], [0.25]]], &device);
/// let decay = Tensor::<B, 1>::from_data([-1.0], &device);
/// let bonus = Tensor::<B, 1>::from_data([0.5], &device);
/// let state = empty_state(1, 1, &device);
/// let (y, _) = wkv(decay, bonus, k, v, state);
/// let y: Vec<f32> = y.into_data().to_vec().unwrap();
/// for (got, want) in y.iter().zip([1.0, 0.748_027_6, 1.866_897_6, 1.364_509_3]) {
///     assert!((got - want).abs() < 1e-6);
/// }
/// # }
/// ```
pub fn wkv<B: RwkvBackend>(
    time_decay: Tensor<B, 1>,
    time_first: Tensor<B, 1>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    state: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    check_shapes(&time_decay, &time_first, &k, &v, &state);
    let dtype = inner_dtype(k.dtype());
    let w = time_decay.cast(dtype).exp().neg();
    let inputs = WkvInputs {
        w: primitive(w),
        u: primitive(time_first.cast(dtype)),
        k: primitive(k),
        v: primitive(v),
        state: primitive(state.cast(dtype)),
    };
    let WkvForward { y, state, .. } = B::wkv_forward(inputs, false);
    (tensor(y), tensor(state))
}

/// The state before any token: `a = b = 0`, `p =` [`EMPTY_EXPONENT`].
///
/// # Shapes
/// - returns `[batch, 3, channels]`
///
/// # Source
/// Official inference code, which starts at `aa = bb = 0`, `pp = −1e30`; the CUDA kernel uses −1e38.
#[must_use]
pub fn empty_state<B: Backend>(batch: usize, channels: usize, device: &B::Device) -> Tensor<B, 3> {
    let zeros = Tensor::zeros([batch, 2, channels], (device, DType::F32));
    let exponent = Tensor::full([batch, 1, channels], EMPTY_EXPONENT, (device, DType::F32));
    Tensor::cat(vec![zeros, exponent], 1)
}

/// Panics unless the five tensors fit each other.
fn check_shapes<B: Backend>(
    time_decay: &Tensor<B, 1>,
    time_first: &Tensor<B, 1>,
    k: &Tensor<B, 3>,
    v: &Tensor<B, 3>,
    state: &Tensor<B, 3>,
) {
    let [batch, time, channels] = k.dims();
    assert!(batch > 0 && time > 0 && channels > 0, "wkv: k has shape {:?}, every dimension must be positive", k.dims());
    assert_eq!(time_decay.dims(), [channels], "wkv: time_decay does not fit k of shape {:?}", k.dims());
    assert_eq!(time_first.dims(), [channels], "wkv: time_first does not fit k of shape {:?}", k.dims());
    assert_eq!(v.dims(), k.dims(), "wkv: v and k have different shapes");
    assert_eq!(state.dims(), [batch, 3, channels], "wkv: state does not fit k of shape {:?}", k.dims());
}
