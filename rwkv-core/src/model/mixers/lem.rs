//! Long expressive memory.

use super::kinds::{small_init, wang_init};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::steps;
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Settings of [`Lem`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LemSettings {
    /// `Δt`, the longest time step.
    pub dt: f64,
}

impl Default for LemSettings {
    fn default() -> Self {
        Self { dt: 1.0 }
    }
}

impl MixerSettings for LemSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        let recurrent = Rule::Uniform { scale: (a as f64).powf(-0.5) };
        vec![
            Parameter::new("input.weight", [4 * a, c], small_init(config)),
            Parameter::new("bias", [4 * a], Rule::Zeros),
            Parameter::new("recurrent.weight", [3 * a, a], recurrent),
            Parameter::new("cell.weight", [a, a], recurrent),
            Parameter::new("output.weight", [c, a], wang_init(config)),
        ]
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::zeros(2, config.dim_att)
    }

    fn validate(&self, _config: &RwkvConfig) -> Result<()> {
        // Above 1 a step may go past what it goes to.
        if self.dt > 0.0 && self.dt <= 1.0 {
            return Ok(());
        }
        Err(Error::config("dt", "a number above 0, at most 1", self.dt))
    }
}

/// Long expressive memory: two states that move towards new values, each with step sizes of its own that it learns to choose,
/// and a projection of the outputs.
///
/// ```text
/// δ_t = Δt·σ(W₁·y_{t−1} + V₁·x_t + b₁)              ε_t = Δt·σ(W₂·y_{t−1} + V₂·x_t + b₂)
/// z_t = (1 − δ_t) ⊙ z_{t−1} + δ_t ⊙ tanh(W_z·y_{t−1} + V_z·x_t + b_z)
/// y_t = (1 − ε_t) ⊙ y_{t−1} + ε_t ⊙ tanh(W_y·z_t + V_y·x_t + b_y)
/// out_t = W_o·y_t
/// ```
///
/// One token comes after the other; only the products with `x` and `W_o·y` are computed for all at once. `W₁`, `W₂`, `W_z` and
/// `W_y` start uniform on `±1/√A`. The memory is `y` and `z`; arithmetic on it is `f32`.
///
/// # Source
/// Rusch et al., Long expressive memory for sequence modeling (arXiv 2110.04744), eq. 3.
#[derive(Module, Debug)]
pub struct Lem<B: Backend> {
    /// `V₁`, `V₂`, `V_z` and `V_y`, from `C` to `4A`.
    pub input: Projection<B>,
    /// `b₁`, `b₂`, `b_z` and `b_y`, `[4A]`.
    pub bias: Param<Tensor<B, 1>>,
    /// `W₁`, `W₂` and `W_z`, from `A` to `3A`.
    pub recurrent: Projection<B>,
    /// `W_y`, from `A` to `A`.
    pub cell: Projection<B>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    #[module(skip)]
    dt: f64,
}

impl<B: Backend> Mixer<B> for Lem<B> {
    type Settings = LemSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: LemSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        Self {
            input: matrix("input", c, 4 * a),
            bias: init.tensor(&format!("{name}.bias"), [4 * a]),
            recurrent: matrix("recurrent", a, 3 * a),
            cell: matrix("cell", a, a),
            output: matrix("output", a, c),
            dt: settings.dt,
        }
    }

    fn settings(&self) -> LemSettings {
        LemSettings { dt: self.dt }
    }

    fn size(&self) -> usize {
        self.cell.shape()[0]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { input, recurrent, cell, output, .. } = self;
        vec![("input", input), ("recurrent", recurrent), ("cell", cell), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for Lem<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let size = self.cell.shape()[0];
        let inputs = self.input.forward(x.clone()).cast(inside) + self.bias.val().cast(inside).unsqueeze();
        let inputs = at("gates", inputs); // [B, T, 4A], without the parts of y and z
        let [mut y, mut z] = steps::pair(memory);
        let mut outputs = Vec::new();
        for inputs in steps::split(inputs) {
            let read = self.recurrent.forward(y.clone().cast(dtype)).cast(inside);
            let read = inputs.clone().narrow(1, 0, 3 * size) + read;
            let steps = sigmoid(read.clone().narrow(1, 0, 2 * size)).mul_scalar(self.dt);
            let step = |i: usize| steps.clone().narrow(1, i * size, size);
            // (1 − δ) ⊙ z + δ ⊙ new, in fewer operations.
            z = z.clone() + step(0) * (read.narrow(1, 2 * size, size).tanh() - z);
            let new = inputs.narrow(1, 3 * size, size) + self.cell.forward(z.clone().cast(dtype)).cast(inside);
            y = y.clone() + step(1) * (new.tanh() - y);
            outputs.push(y.clone());
        }
        let all = at("hidden", steps::join(outputs));
        let out = at("output", self.output.forward(all.cast(dtype)));
        (out, last_token(x), Tensor::stack(vec![y, z], 1))
    }
}
