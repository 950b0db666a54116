//! What a mixer must say of itself: its settings before it exists, its computation after.

use crate::config::RwkvConfig;
use crate::error::Result;
use crate::model::init::{Initializer, Rule};
use crate::model::projection::Projection;
use crate::model::restarts::LayerRestarts;
use crate::ops::RwkvBackend;
use crate::ops::wkv::EMPTY_EXPONENT;
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// A parameter of a mixer, under its local name, as in `key.weight` for `blocks.3.att.key.weight`.
///
/// Everything that must be known of it follows from this: the parameter count, a checkpoint's names and shapes, the initial
/// values, the arithmetic of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The local name. That of a [`Projection`] ends with `.weight`.
    pub name: &'static str,
    /// The shape; `[out, in]` for a projection. What is no projection must not have two dimensions, because checkpoints take
    /// those for projections and hold them transposed.
    pub shape: Vec<usize>,
    /// How it starts; as RWKV-4's parameter of this name when there is none.
    pub rule: Option<Rule>,
}

impl Parameter {
    /// Any parameter.
    ///
    /// # Panics
    /// For a shape of two dimensions without `.weight` at the end of the name, or the other way round.
    #[must_use]
    pub fn new(name: &'static str, shape: impl Into<Vec<usize>>, rule: impl Into<Option<Rule>>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.len() == 2, name.ends_with(".weight"), "{name}: projections, and only they, are matrices");
        Self { name, shape, rule: rule.into() }
    }

    /// How many numbers it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a mixer remembers of one sequence before any token: rows of equal numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// The number that each row holds.
    pub rows: Vec<f32>,
    /// Numbers in a row; at least 1.
    pub columns: usize,
    /// Whether there will be more rows as the text goes on. Rows of zeros then stand for nothing: they are put in front of
    /// shorter memories when states are put together, and where a text ends all rows become zeros.
    pub grows: bool,
}

impl Memory {
    /// Nothing is remembered; a state holds one zero.
    #[must_use]
    pub fn nothing() -> Self {
        Self::zeros(1, 1)
    }

    /// A memory of fixed size that starts with zeros.
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows: vec![0.0; rows], columns, grows: false }
    }

    /// A memory that gets a row a token, from one row of zeros on.
    #[must_use]
    pub fn growing(columns: usize) -> Self {
        Self { grows: true, ..Self::zeros(1, columns) }
    }

    /// WKV's: numerator, denominator and exponent of every channel.
    pub(super) fn wkv(channels: usize) -> Self {
        Self { rows: vec![0.0, 0.0, EMPTY_EXPONENT], columns: channels, grows: false }
    }

    /// As a tensor, `[B, rows, columns]`.
    pub(crate) fn tensor<B: Backend>(&self, batch: usize, device: &B::Device) -> Tensor<B, 3> {
        let row = |&number: &f32| std::iter::repeat_n(number, self.columns);
        let values: Vec<f32> = self.rows.iter().flat_map(row).collect();
        let one = Tensor::<B, 3>::from_data(
            TensorData::new(values, [1, self.rows.len(), self.columns]),
            (device, DType::F32),
        );
        one.repeat_dim(0, batch)
    }
}

/// A mixer's settings in a configuration, which say what it will be.
pub trait MixerSettings {
    /// All parameters in a model of these sizes.
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter>;

    /// What it remembers of a sequence before any token.
    fn memory(&self, _config: &RwkvConfig) -> Memory {
        Memory::nothing()
    }

    /// Multiplications with additions for one token of a sequence of `ctx_len`: those of the projections, and what a mixer does
    /// beside them if that grows faster than the width.
    fn multiply_adds(&self, config: &RwkvConfig, _ctx_len: usize) -> f64 {
        projections(&self.parameters(config))
    }

    /// Checks that a model of these sizes can have it.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) that names the key.
    fn validate(&self, _config: &RwkvConfig) -> Result<()> {
        Ok(())
    }
}

/// The numbers in all projections among these parameters.
pub(super) fn projections(parameters: &[Parameter]) -> f64 {
    parameters.iter().filter(|parameter| parameter.shape.len() == 2).map(|parameter| parameter.size() as f64).sum()
}

/// Lets a [`Hook`](crate::model::Hook) look at an intermediate under its local name, or replace it.
pub type At<'a, B> = &'a mut dyn FnMut(&str, Tensor<B, 3>) -> Tensor<B, 3>;

/// A mixer as a module; sequence mixers and channel mixers alike.
pub(super) trait Mixer<B: Backend>: Module<B> {
    /// What the configuration says of it.
    type Settings: MixerSettings;

    /// With parameters that start as [`MixerSettings::parameters`] says, under names that begin with `name`.
    fn new(init: &Initializer<'_, B>, name: &str, settings: Self::Settings) -> Self;

    /// The settings that it was made from.
    fn settings(&self) -> Self::Settings;

    /// Inner channels of a sequence mixer, hidden units of a channel mixer.
    fn size(&self) -> usize;

    /// Its projections by their local names, without `.weight`.
    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)>;
}

/// What looks back in time.
pub(super) trait MixesSequences<B: RwkvBackend>: Mixer<B> {
    /// Mixes over time.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the input before `x`
    /// - `memory`: `[B, rows, columns]`, as [`MixerSettings::memory`] or as it was returned
    /// - returns `[B, T, C]`, the new `last` and the new `memory`
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>);

    /// [`Self::forward`] where rows start anew inside. Without another way it runs text by text.
    fn forward_restarting(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        restarts: LayerRestarts<'_, B>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        restarts.in_pieces(x, last, memory, |x, last, memory| self.forward(x, last, memory, &mut *at))
    }
}

/// What mixes the channels of a token.
pub(super) trait MixesChannels<B: RwkvBackend>: Mixer<B> {
    /// Mixes channels.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, after the layer norm
    /// - `last`: `[B, C]`, the input before `x`
    /// - `restarts`: where rows start anew
    /// - returns `[B, T, C]` and the new `last`
    fn forward(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        restarts: Option<LayerRestarts<'_, B>>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>);
}
