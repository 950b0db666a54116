//! Adam's update of one parameter: one pass over four tensors.

#[cfg(feature = "cpu")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
pub(super) mod cube;
pub mod portable;

use super::{RwkvBackend, primitive, tensor};
use burn::tensor::Tensor;

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

/// The parameter and both moments after an update, clipped by the norm of all gradients together.
///
/// ```text
/// g ← min(1, max_norm/(‖g‖ + 10⁻⁶))·g
/// m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²
/// p ← (1 − lr·λ)p − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)
/// ```
///
/// Where `norm`, which is `‖g‖`, is infinite or NaN, all three stay as they are to the last bit, whatever the gradient holds.
/// On a GPU the kernel sees to it: nobody needs to read the norm, and so to wait for the device, before the update.
///
/// # Shapes
/// - `norm`: `[1]`, all others the same, `f32`
///
/// # Panics
/// When shapes differ, or `norm` is not one number.
///
/// # Source
/// Kingma and Ba 2015; Loshchilov and Hutter 2019 for the decay. Reference §4.2: global norm 1.0, clipped as in PyTorch;
/// Burn's own clipping is per tensor.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use rwkv_core::ops::adam::{AdamStep, adam};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let x = |value: f32| Tensor::<B, 1>::from_data([value], &Default::default());
/// let (lr, max_norm, weight_decay) = (0.1, 1.0, 0.0);
/// let step = AdamStep { lr, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, max_norm, weight_decay, updates: 1 };
/// let [param, _, _] = adam(x(1.0), x(5.0), x(0.0), x(0.0), x(5.0), &step);
/// // The first step is the learning rate, whatever the gradient's size.
/// assert!((param.into_scalar() - 0.9).abs() < 1e-6);
/// let [param, _, _] = adam(x(1.0), x(f32::NAN), x(0.0), x(0.0), x(f32::NAN), &step);
/// assert_eq!(param.into_scalar(), 1.0);
/// # }
/// ```
pub fn adam<B: RwkvBackend, const D: usize>(
    param: Tensor<B, D>,
    grad: Tensor<B, D>,
    first: Tensor<B, D>,
    second: Tensor<B, D>,
    norm: Tensor<B, 1>,
    step: &AdamStep,
) -> [Tensor<B, D>; 3] {
    assert_eq!(norm.dims(), [1], "adam: the norm is not one number");
    for (what, dims) in [("gradient", grad.dims()), ("first moment", first.dims()), ("second moment", second.dims())] {
        assert_eq!(dims, param.dims(), "adam: the {what} is not of the parameter's shape");
    }
    B::adam_step(primitive(param), primitive(grad), primitive(first), primitive(second), primitive(norm), step)
        .map(tensor)
}
