//! Looking into the model while it runs: every intermediate has a name, and a hook may read it or replace it.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Sees the intermediates of a forward pass, in the order in which they arise, and may replace them.
///
/// The same names arise in both modes, with `T = 1` in the recurrent one; all tensors are `[B, T, …]`:
///
/// | name | what |
/// |---|---|
/// | `emb` | the embeddings, `C` |
/// | `blocks.N.ln0` (`N = 0`), `blocks.N.ln1`, `blocks.N.ln2` | outputs of the layer norms, `C` |
/// | `blocks.N.att.shift_k`, `….shift_v`, `….shift_r` | inputs of the time-mix's projections, `C` |
/// | `blocks.N.att.key`, `….value`, `….receptance` | their outputs, `A` |
/// | `blocks.N.att.wkv` | outputs of the recurrence, `A` |
/// | `blocks.N.att.output` | what the time-mix adds to the residual stream, `C` |
/// | `blocks.N.att` | the residual stream after the time-mix, `C` |
/// | `blocks.N.ffn.shift_k`, `….shift_r` | inputs of the channel-mix's projections, `C` |
/// | `blocks.N.ffn.key`, `….receptance` | their outputs, `F` and `C` |
/// | `blocks.N.ffn.value` | the value projection's output, before the gate, `C` |
/// | `blocks.N.ffn.output` | what the channel-mix adds to the residual stream, `C` |
/// | `blocks.N` | the residual stream after block `N`, `C` |
/// | `ln_out` | the last layer norm's output, `C` |
/// | `head` | the logits, `V` |
///
/// A pass without a hook takes [`NoHook`], which does nothing; no name is put together then.
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::{Capture, Rwkv};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 4, 32), 0, &device);
/// let tokens = Tensor::<B, 2, Int>::from_data([[1, 2, 3]], &device);
///
/// // Read one intermediate.
/// let mut capture = Capture::new(["blocks.3.att.wkv"]);
/// model.forward_hooked(tokens.clone(), model.zero_state(1), &mut capture);
/// assert_eq!(capture.get("blocks.3.att.wkv").unwrap().dims(), [1, 3, 32]);
///
/// // Switch one sub-block off.
/// let mut ablate = |name: &dyn std::fmt::Display, x: Tensor<B, 3>| {
///     if name.to_string() == "blocks.2.ffn.output" { x.zeros_like() } else { x }
/// };
/// let (logits, _) = model.forward_hooked(tokens, model.zero_state(1), &mut ablate);
/// assert_eq!(logits.dims(), [1, 3, 65]);
/// # }
/// ```
pub trait Hook<B: Backend> {
    /// Called with every intermediate; what it returns takes its place, in the same shape. The name is put together only
    /// when it is looked at.
    fn at(&mut self, name: fmt::Arguments<'_>, value: Tensor<B, 3>) -> Tensor<B, 3>;
}

/// The hook that is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHook;

impl<B: Backend> Hook<B> for NoHook {
    #[inline(always)]
    fn at(&mut self, _: fmt::Arguments<'_>, value: Tensor<B, 3>) -> Tensor<B, 3> {
        value
    }
}

/// Any closure over the name and the value.
impl<B: Backend, F: FnMut(&dyn fmt::Display, Tensor<B, 3>) -> Tensor<B, 3>> Hook<B> for F {
    fn at(&mut self, name: fmt::Arguments<'_>, value: Tensor<B, 3>) -> Tensor<B, 3> {
        self(&name, value)
    }
}

/// Keeps intermediates by name and changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Capture<B: Backend> {
    wanted: BTreeSet<String>,
    found: BTreeMap<String, Tensor<B, 3>>,
}

impl<B: Backend> Capture<B> {
    /// Keeps the intermediates of these names.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { wanted: names.into_iter().map(Into::into).collect(), found: BTreeMap::new() }
    }

    /// The intermediate of this name in the last pass; nothing if it was not asked for or did not arise.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor<B, 3>> {
        self.found.get(name)
    }

    /// All that were kept, by name.
    #[must_use]
    pub fn into_found(self) -> BTreeMap<String, Tensor<B, 3>> {
        self.found
    }
}

impl<B: Backend> Hook<B> for Capture<B> {
    fn at(&mut self, name: fmt::Arguments<'_>, value: Tensor<B, 3>) -> Tensor<B, 3> {
        let name = name.to_string();
        if self.wanted.contains(&name) {
            self.found.insert(name, value.clone());
        }
        value
    }
}
