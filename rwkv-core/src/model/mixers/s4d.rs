//! A diagonal state space.

use super::division::divided;
use super::kinds::{small_init, wang_init};
use super::mixer::{At, Memory, Mixer, MixerSettings, MixesSequences, Parameter, projections};
use super::mlp::gelu;
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::{Initializer, Rule};
use crate::model::layers::last_token;
use crate::model::projection::Projection;
use crate::ops::RwkvBackend;
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Settings of [`S4d`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S4dSettings {
    /// Numbers of state for each channel, `N`: half as many complex ones.
    pub state: usize,
    /// The shortest step that a channel starts with.
    pub dt_min: f64,
    /// The longest.
    pub dt_max: f64,
}

impl Default for S4dSettings {
    fn default() -> Self {
        Self { state: 64, dt_min: 0.001, dt_max: 0.1 }
    }
}

impl MixerSettings for S4dSettings {
    fn parameters(&self, config: &RwkvConfig) -> Vec<Parameter> {
        let (c, a, states) = (config.n_embd, config.dim_att, self.state / 2);
        let of_states = |name, rule| Parameter::new(name, [1, a, states], rule);
        vec![
            Parameter::new("input.weight", [a, c], small_init(config)),
            Parameter::new("log_dt", [a], Rule::LogUniform { low: self.dt_min, high: self.dt_max }),
            of_states("log_decay", Rule::Zeros),
            of_states("frequency", Rule::Ramp { step: PI, period: states }),
            of_states("read_real", Rule::Normal { std: FRAC_1_SQRT_2 }),
            of_states("read_imag", Rule::Normal { std: FRAC_1_SQRT_2 }),
            Parameter::new("skip", [a], Rule::Normal { std: 1.0 }),
            Parameter::new("output.weight", [c, a], wang_init(config)),
        ]
    }

    fn memory(&self, config: &RwkvConfig) -> Memory {
        Memory::zeros(self.state, config.dim_att)
    }

    fn multiply_adds(&self, config: &RwkvConfig, ctx_len: usize) -> f64 {
        // Into the states and out of them, and the convolution inside a chunk.
        let of_channel = 2 * self.state + CHUNK.min(ctx_len);
        projections(&self.parameters(config)) + (config.dim_att * of_channel) as f64
    }

    fn validate(&self, _config: &RwkvConfig) -> Result<()> {
        if self.state == 0 || !self.state.is_multiple_of(2) {
            return Err(Error::config("state", "an even number, at least 2", self.state));
        }
        if !(self.dt_min > 0.0 && self.dt_min.is_finite()) {
            return Err(Error::config("dt_min", "a positive number", self.dt_min));
        }
        if !(self.dt_max >= self.dt_min && self.dt_max.is_finite()) {
            return Err(Error::config(
                "dt_max",
                format!("a number that is at least dt_min, {}", self.dt_min),
                self.dt_max,
            ));
        }
        Ok(())
    }
}

/// Tokens of one convolution.
const CHUNK: usize = 64;

/// A diagonal state space for each of `A` channels, between two projections: S4D.
///
/// ```text
/// u = W_i·x
/// x_t = Ā ⊙ x_{t−1} + B̄ ⊙ u_t            Ā = e^{ΔA},  B̄ = (Ā − 1)/A,  B = 1: zero-order hold
/// y_t = 2·Re(C·x_t) + D·u_t                 N/2 complex states a channel, for N/2 pairs
/// out_t = W_o·gelu(y_t)
/// ```
///
/// The parameters are `ln Δ`, the logarithm of twice the decay, `A = −½·e^{log_decay} + i·frequency`, and both parts of `C`. They
/// start as S4D-Lin: `A_n = −½ + iπn`, `C` drawn from the complex normal distribution, `ln Δ` uniform between those of `dt_min`
/// and `dt_max`, `D` normal. After GELU, S4 has a gated linear layer of its own; here the projection stands for it.
///
/// Chunks of 64 tokens are convolutions with the kernel `K_t = 2·Re Σ_n C_n·B̄_n·Ā_n^t`, as products with a Toeplitz matrix, plus
/// what the state before them gives; a single token is a chunk of 1. The memory is `x_t/B̄`, real parts then imaginary,
/// `[N, A]`; arithmetic on it is `f32`.
///
/// # Source
/// Gu et al., On the parameterization and initialization of diagonal state space models (arXiv 2206.11893), §3–4 and listing 1.
#[derive(Module, Debug)]
pub struct S4d<B: Backend> {
    /// `W_i`, from `C` to `A`.
    pub input: Projection<B>,
    /// `ln Δ`, `[A]`.
    pub log_dt: Param<Tensor<B, 1>>,
    /// `ln(−2·Re A)`, `[1, A, N/2]`.
    pub log_decay: Param<Tensor<B, 3>>,
    /// `Im A`, `[1, A, N/2]`.
    pub frequency: Param<Tensor<B, 3>>,
    /// `Re C`, `[1, A, N/2]`.
    pub read_real: Param<Tensor<B, 3>>,
    /// `Im C`, `[1, A, N/2]`.
    pub read_imag: Param<Tensor<B, 3>>,
    /// `D`, `[A]`.
    pub skip: Param<Tensor<B, 1>>,
    /// `W_o`, from `A` to `C`.
    pub output: Projection<B>,
    #[module(skip)]
    settings: S4dSettings,
}

impl<B: Backend> Mixer<B> for S4d<B> {
    type Settings = S4dSettings;

    fn new(init: &Initializer<'_, B>, name: &str, settings: S4dSettings) -> Self {
        let (c, a) = (init.config.n_embd, init.config.dim_att);
        let matrix = |part: &str, inputs, out| Projection::new(init, &format!("{name}.{part}"), inputs, out);
        let of_channels = |part: &str| init.tensor(&format!("{name}.{part}"), [a]);
        let of_states = |part: &str| init.tensor(&format!("{name}.{part}"), [1, a, settings.state / 2]);
        Self {
            input: matrix("input", c, a),
            log_dt: of_channels("log_dt"),
            log_decay: of_states("log_decay"),
            frequency: of_states("frequency"),
            read_real: of_states("read_real"),
            read_imag: of_states("read_imag"),
            skip: of_channels("skip"),
            output: matrix("output", a, c),
            settings,
        }
    }

    fn settings(&self) -> S4dSettings {
        self.settings
    }

    fn size(&self) -> usize {
        self.input.shape()[1]
    }

    fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
        let Self { input, output, .. } = self;
        vec![("input", input), ("output", output)]
    }
}

impl<B: RwkvBackend> MixesSequences<B> for S4d<B> {
    fn forward(
        &self,
        x: Tensor<B, 3>,
        _last: Tensor<B, 2>,
        memory: Tensor<B, 3>,
        at: At<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let (dtype, inside) = (x.dtype(), memory.dtype());
        let [_, time, _] = x.dims();
        let u = at("input", self.input.forward(x.clone()).cast(inside));
        let skipped = u.clone() * self.skip.val().cast(inside).unsqueeze();
        // Channels first: each has a matrix of its own.
        let u = u.permute([2, 0, 1]); // [A, B, T]
        let mut state = memory.permute([2, 0, 1]); // [A, B, N]
        let powers = self.powers(CHUNK.min(time), inside);
        let whole = time - time % CHUNK;
        let mut outputs = Vec::new();
        for (start, end, length) in [(0, whole, CHUNK), (whole, time, time - whole)] {
            if start < end {
                let (y, after) = powers.chunks(u.clone().narrow(2, start, end - start), state, length);
                outputs.push(y);
                state = after;
            }
        }
        let y = at("states", Tensor::cat(outputs, 2).permute([1, 2, 0]) + skipped);
        let y = at("output", self.output.forward(gelu(y).cast(dtype)));
        (y, last_token(x), state.permute([1, 2, 0]))
    }
}

impl<B: Backend> S4d<B> {
    /// What chunks of up to `longest` tokens need.
    fn powers(&self, longest: usize, inside: DType) -> Powers<B> {
        let column = |x: &Param<Tensor<B, 3>>| {
            let [_, channels, states] = x.lazy_shape().dims();
            x.val().cast(inside).reshape([channels, states, 1])
        };
        let channels = self.log_dt.lazy_shape().dims::<1>()[0];
        let dt = self.log_dt.val().cast(inside).exp().reshape([channels, 1, 1]);
        let (real, imag) = (column(&self.log_decay).exp().mul_scalar(-0.5), column(&self.frequency)); // A
        let (decay, angle) = (real.clone() * dt.clone(), imag.clone() * dt); // ΔA

        // e^{ΔA} − 1 without the difference of two numbers near 1: for real ones it is 2·tanh(x/2)/(1 − tanh(x/2)).
        let half = decay.clone().mul_scalar(0.5).tanh();
        let grown = divided(half.clone().mul_scalar(2.0), half.neg().add_scalar(1.0));
        let half_sine = angle.clone().mul_scalar(0.5).sin();
        let minus_one = (
            grown.clone() * angle.clone().cos() - half_sine.powi_scalar(2).mul_scalar(2.0),
            grown.add_scalar(1.0) * angle.clone().sin(),
        );
        let read = (column(&self.read_real).mul_scalar(2.0), column(&self.read_imag).mul_scalar(2.0)); // 2C
        let squared = real.clone().powi_scalar(2) + imag.clone().powi_scalar(2);
        let (read_real, read_imag) =
            times(read, times(minus_one, (divided(real, squared.clone()), divided(imag, squared).neg()))); // 2CB̄

        let device = decay.device();
        let count = Tensor::<B, 1, Int>::arange(0..longest as i64 + 1, &device).float().cast(inside).unsqueeze();
        let (size, angle) = ((decay * count.clone()).exp(), angle * count); // [A, N/2, L + 1]
        let (real, imag) = (size.clone() * angle.clone().cos(), size * angle.sin());
        let (out_real, out_imag) = times((read_real, read_imag), (real.clone(), imag.clone()));
        Powers { real, imag, out_real, out_imag }
    }
}

/// The product of two complex numbers.
fn times<B: Backend>(
    (a, b): (Tensor<B, 3>, Tensor<B, 3>),
    (c, d): (Tensor<B, 3>, Tensor<B, 3>),
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    (a.clone() * c.clone() - b.clone() * d.clone(), a * d + b * c)
}

/// What all chunks have in common, each `[A, N/2, L + 1]`.
struct Powers<B: Backend> {
    /// `Ā^l` for `l` from 0 to `L`.
    real: Tensor<B, 3>,
    imag: Tensor<B, 3>,
    /// `2CB̄·Ā^l`.
    out_real: Tensor<B, 3>,
    out_imag: Tensor<B, 3>,
}

impl<B: Backend> Powers<B> {
    /// Several chunks of `length` tokens: `u` is `[A, B, n·length]`, `state` is `[A, B, N]`.
    fn chunks(&self, u: Tensor<B, 3>, state: Tensor<B, 3>, length: usize) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let [channels, batch, time] = u.dims();
        let [_, _, size] = state.dims();
        let chunks = time / length;
        let u = u.reshape([channels, batch * chunks, length]);

        // What each chunk adds to the state at its end: Σ_s Ā^{L−1−s}·u_s.
        let first = |x: &Tensor<B, 3>| x.clone().narrow(2, 0, length);
        let weights = Tensor::cat(vec![first(&self.real), first(&self.imag)], 1).flip([2]); // [A, N, L]
        let added = u.clone().matmul(weights.swap_dims(1, 2)).reshape([channels, batch, chunks, size]);

        // The states before the chunks, and the one after all.
        let over = |x: &Tensor<B, 3>| x.clone().narrow(2, length, 1).reshape([channels, 1, size / 2]);
        let over = (over(&self.real), over(&self.imag)); // Ā^L
        let mut state = state;
        let mut before = Vec::new();
        for chunk in 0..chunks {
            before.push(state.clone());
            let parts = (state.clone().narrow(2, 0, size / 2), state.narrow(2, size / 2, size / 2));
            let (real, imag) = times(over.clone(), parts);
            let added = added.clone().narrow(2, chunk, 1).reshape([channels, batch, size]);
            state = Tensor::cat(vec![real, imag], 2) + added;
        }
        let before = Tensor::stack::<4>(before, 2).reshape([channels, batch * chunks, size]);

        // What the states give, Re(2CB̄·Ā^{t+1}·x), and what the chunks' own tokens give.
        let next = |x: &Tensor<B, 3>| x.clone().narrow(2, 1, length);
        let weights = Tensor::cat(vec![next(&self.out_real), next(&self.out_imag).neg()], 1); // [A, N, L]
        let kernel = first(&self.out_real).sum_dim(1); // [A, 1, L]
        let y = before.matmul(weights) + u.matmul(toeplitz(kernel));
        (y.reshape([channels, batch, time]), state)
    }
}

/// `K_{t−s}` in row `s` and column `t`, zeros where `t < s`: `[A, 1, L]` to `[A, L, L]`.
///
/// Rows of `2L` numbers, the kernel and zeros, read as rows of `2L − 1`: each begins one number further left in its own.
fn toeplitz<B: Backend>(kernel: Tensor<B, 3>) -> Tensor<B, 3> {
    let [channels, _, length] = kernel.dims();
    let row = Tensor::cat(vec![kernel.clone(), kernel.zeros_like()], 2);
    let rows = row.expand([channels, length, 2 * length]).reshape([channels, 2 * length * length]);
    let cut = rows.narrow(1, 0, length * (2 * length - 1)).reshape([channels, length, 2 * length - 1]);
    cut.narrow(2, 0, length)
}
