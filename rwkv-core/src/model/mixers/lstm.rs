//! Long short-term memory.

use super::kinds::{small_init, wang_init};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter};
use super::steps;
use crate::config::RwkvConfig;
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// [`Lstm`] has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmSettings {}

impl MixerSettings for LstmSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a) = (config.n_embd, config.dim_att);
        vec![
            Parameter::new("input.weight", [4 * a, c], small_init(config)),
            Parameter::new("recurrent.weight", [4 * a, a], Rule::Uniform { scale: (a as f64).powf(-0.5) }),
            Parameter::new("input_bias", [a], Rule::Zeros),
            Parameter::new("forget_bias", [a], Rule::Ones),
            Parameter::new("output_bias", [a], Rule::Zeros),
            Parameter::new("cell_bias", [a], Rule::Zeros),
            Parameter::new("output.weight", [c, a], wang_init(config)),
        ]
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::zeros(2, config.dim_att)
    }
}

/// Long short-term memory with a forget gate, and a projection of its outputs.
///
/// ```text
/// (i, f, o, g)_t = W·x_t + R·h_{t−1} + (b_i, b_f, b_o, b_g)
/// c_t = σ(f_t) ⊙ c_{t−1} + σ(i_t) ⊙ tanh(g_t)
/// h_t = σ(o_t) ⊙ tanh(c_t)
/// out_t = W_o·h_t
/// ```
///
/// One token comes after the other; only `W·x` and `W_o·h` are computed for all at once. Forget gates start with a bias of 1,
/// so that it remembers at first; `R` starts uniform on `±1/√A`. The memory is `h` and `c`; arithmetic on it is `f32`.
///
/// # Source
/// Hochreiter & Schmidhuber, Long short-term memory (Neural Computation 9(8), 1997); Gers, Schmidhuber & Cummins, Learning to
/// forget (Neural Computation 12(10), 2000), for the forget gate; Jozefowicz et al., An empirical exploration of recurrent
/// network architectures (ICML 2015), for its bias.
#[derive(Module, Debug)]
pub struct Lstm<B: Backend> {
    /// `W`, from `C` to `4A`: input, forget and output gates, and the cell's input.
    pub input: Projection<B>,
    /// `R`, from `A` to `4A`.
    pub recurrent: Projection<B>,
    /// `b_i`, `[A]`.
    pub input_bias: Param<Tensor<B, 1>>,
    /// `b_f`, `[A]`.
    pub forget_bias: Param<Tensor<B, 1>>,
    /// `b_o`, `[A]`.
    pub output_bias: Param<Tensor<B, 1>>,
    /// `b_g`, `[A]`.
    pub cell_bias: Param<Tensor<B, 1>>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
}

impl<B: Backend> Mixer<B> for Lstm<B> {
    type Settings = LstmSettings;

    fn new(init: &Initializer<'_, B>, name: &str, _settings: LstmSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        let bias = |part: &str| init.tensor(&format!("{name}.{part}"), [a]);
        Self {
            input: matrix("input", c, 4 * a),
            recurrent: matrix("recurrent", a, 4 * a),
            input_bias: bias("input_bias"),
            forget_bias: bias("forget_bias"),
            output_bias: bias("output_bias"),
            cell_bias: bias("cell_bias"),
            output: matrix("output", a, c),
        }
    }

    fn settings(&self) -> LstmSettings {
        LstmSettings {}
    }

    fn size(&self) -> usize {
        self.recurrent.shape()[0]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { input, recurrent, output, .. } = self;
        vec![("input", input), ("recurrent", recurrent), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for Lstm<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let size = self.recurrent.shape()[0];
        let biases = [&self.input_bias, &self.forget_bias, &self.output_bias, &self.cell_bias];
        let bias = Tensor::cat(biases.map(Param::val).to_vec(), 0).cast(inside);
        let gates = self.input.forward(x.clone()).cast(inside) + bias.unsqueeze();
        let gates = at("gates", gates); // [B, T, 4A], without the part of h
        let [mut h, mut c] = steps::pair(memory);
        let mut outputs = Vec::new();
        for gates in steps::split(gates) {
            let gates = gates + self.recurrent.forward(h.cast(dtype)).cast(inside);
            let open = sigmoid(gates.clone().narrow(1, 0, 3 * size));
            let gate = |i: usize| open.clone().narrow(1, i * size, size);
            c = gate(1) * c + gate(0) * gates.narrow(1, 3 * size, size).tanh();
            h = gate(2) * c.clone().tanh();
            outputs.push(h.clone());
        }
        let h_all = at("hidden", steps::join(outputs));
        let y = at("output", self.output.forward(h_all.cast(dtype)));
        (y, last_token(x), Tensor::stack(vec![h, c], 1))
    }
}
