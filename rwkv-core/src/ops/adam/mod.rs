//! Adam's update of parameters: one pass over four tensors each.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata};

/// The numbers of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the first moment.
    pub beta_1: f64,
    /// The decay of the second moment.
    pub beta_2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// The largest norm of all gradients together: longer ones are shortened to it.
    pub max_norm: f64,
    /// Decoupled weight decay: the parameter is multiplied by `1 − lr·weight_decay` before the update.
    pub weight_decay: f64,
    /// Updates of this parameter, this one among them: what the bias correction is about.
    pub updates: u64,
}

/// An update as the kernels compute it: `g ← min(1, max_norm/(‖g‖ + 10⁻⁶))·g`, `m ← β₁m + new_1·g`,
/// `v ← β₂v + new_2·g²`, `p ← keep·p − rate·m/(√v·scale + ε)`.
///
/// `1 − β` comes from the f64: 1 minus the f32 nearest to 0.99 is off by a millionth of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors {
    pub max_norm: f32,
    pub beta_1: f32,
    pub beta_2: f32,
    pub new_1: f32,
    pub new_2: f32,
    pub epsilon: f32,
    pub keep: f32,
    pub rate: f32,
    pub scale: f32,
}

impl From<&AdamStep> for Factors {
    fn from(step: &AdamStep) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step.updates as f64);
        Self {
            max_norm: step.max_norm as f32,
            beta_1: step.beta_1 as f32,
            beta_2: step.beta_2 as f32,
            new_1: (1.0 - step.beta_1) as f32,
            new_2: (1.0 - step.beta_2) as f32,
            epsilon: step.epsilon as f32,
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            rate: (step.lr / correction(step.beta_1)) as f32,
            scale: (1.0 / correction(step.beta_2).sqrt()) as f32,
        }
    }
}

/// What an update reads of one parameter: tensors of one shape, in `f32`. A single parameter of another dtype sends all that
/// are updated together through plain operations, which is slow.
#[derive(Debug, Clone)]
pub struct AdamUpdate<B: Backend> {
    /// The parameter, `p`.
    pub param: FloatTensor<B>,
    /// Its gradient, `g`.
    pub grad: FloatTensor<B>,
    /// Its first moment, `m`.
    pub first: FloatTensor<B>,
    /// Its second moment, `v`.
    pub second: FloatTensor<B>,
    /// The numbers of the update.
    pub step: AdamStep,
}

/// Parameters and both their moments after an update, clipped by the norm of all gradients together: `[p, m, v]` of each.
///
/// ```text
/// g ← min(1, max_norm/(‖g‖ + 10⁻⁶))·g
/// m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²
/// p ← (1 − lr·λ)p − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)
/// ```
///
/// Where `norm`, which is `‖g‖`, is infinite or NaN, everything stays as it is to the last bit, whatever the gradients hold.
/// On a GPU the kernel sees to it: nobody needs to read the norm, and so to wait for the device, before the update.
///
/// # Shapes
/// - `norm`: `[1]`, `f32`
///
/// # Panics
/// When the tensors of a parameter differ in shape, `norm` is not one number, or the backend returns too few results.
///
/// # Cost
/// 28 bytes and 15 floating-point operations an element. On GPUs small parameters share launches.
///
/// # Source
/// Kingma and Ba 2015; Loshchilov and Hutter 2019 for the decay. Reference §4.2: global norm 1.0, clipped as in PyTorch;
/// Burn's own clipping is per tensor.
///
/// # Example
/// ```
/// use burn::tensor::{Tensor, TensorPrimitive};
/// use rwkv_core::ops::adam::{AdamStep, AdamUpdate, adam};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let x = |value: f32| Tensor::<B, 1>::from_data([value], &Default::default());
/// let (lr, max_norm, weight_decay) = (0.1, 1.0, 0.0);
/// let step = AdamStep { lr, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, max_norm, weight_decay, updates: 1 };
/// let update = |grad: f32| {
///     let [param, grad, first, second] = [1.0, grad, 0.0, 0.0].map(|value| x(value).into_primitive().tensor());
///     AdamUpdate::<B> { param, grad, first, second, step }
/// };
/// let params = |norm: f32, grads: Vec<f32>| -> Vec<f32> {
///     let after = adam(grads.into_iter().map(update).collect(), x(norm)).into_iter();
///     after.map(|[p, _, _]| Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(p)).into_scalar()).collect()
/// };
/// // The first step is the learning rate, whatever the gradient's size.
/// for param in params(5.0, vec![3.0, 4.0]) {
///     assert!((param - 0.9).abs() < 1e-6);
/// }
/// assert_eq!(params(f32::NAN, vec![f32::NAN]), [1.0]);
/// # }
/// ```
pub fn adam<B: RwkvBackend>(updates: Vec<AdamUpdate<B>>, norm: Tensor<B, 1>) -> Vec<[FloatTensor<B>; 3]> {
    assert_eq!(norm.dims(), [1], "adam: the norm is not one number");
    for AdamUpdate { param, grad, first, second, .. } in &updates {
        for (what, tensor) in [("gradient", grad), ("first moment", first), ("second moment", second)] {
            assert_eq!(tensor.shape(), param.shape(), "adam: the {what} is not of the parameter's shape");
        }
    }
    let count = updates.len();
    let after = B::adam(updates, primitive(norm));
    assert_eq!(after.len(), count, "adam: parameters that went in and that came out");
    after
}
