//! The initialisation policy, all of it: [`Rule::of`] says how every parameter starts.
//!
//! Values are drawn on the host, from a random stream that belongs to the seed and the parameter's official name. The
//! same seed therefore gives the same model on every backend, in whatever order and at whatever time the lazily
//! allocated weights come to be.

use crate::config::RwkvConfig;
use burn::module::{Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor, TensorData};
use chacha20::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// How one parameter starts.
///
/// With `ρ₀ = l/(L−1)` (0 when `L = 1`) and `ρ₁ = 1 − l/L` for layer `l` of `L`:
///
/// | parameter | starts as |
/// |---|---|
/// | `emb` | uniform on `±emb_init_scale` |
/// | `ln*` weight, bias | 1, 0 |
/// | `att.time_decay[h]` | `−5 + 8·(h/(A−1))^(0.7 + 1.3ρ₀)` |
/// | `att.time_first[i]` | `ln 0.3 + ½·((i+1) mod 3 − 1)` |
/// | `att.time_mix_k[i]`, `ffn.time_mix_{k,r}[i]` | `(i/C)^ρ₁` |
/// | `att.time_mix_v[i]` | `(i/C)^ρ₁ + 0.3ρ₀` |
/// | `att.time_mix_r[i]` | `(i/C)^(ρ₁/2)` |
/// | `att.value`, `ffn.key`, `head` | orthogonal, gain `√(out/in)` if `out > in` else 1; half that for `head` |
/// | `att.{key,receptance,output}`, `ffn.{value,receptance}` | 0 |
/// | other [mixers](super::Mixers) | as their own files say |
/// | any of these with other numbers | [`InitRatios`](super::InitRatios) |
/// | an adapter's `lora_a` | uniform on `±1/√in` |
/// | an adapter's `lora_b` | 0 |
///
/// # Source
/// Reference §3.1, from the official `RWKV-v4neo/src/model.py`; where the paper's appendix differs, the code holds (§3.2).
/// Adapters start as in `loralib` of the LoRA paper: Kaiming's uniform distribution with slope `√5`, and zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normal around 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Uniform on `±scale`.
    Uniform {
        /// Half the width.
        scale: f64,
    },
    /// Its logarithm, uniform between those of two positive numbers: for a parameter that holds the logarithm.
    LogUniform {
        /// The smaller number.
        low: f64,
        /// The larger number.
        high: f64,
    },
    /// `step·(i mod period)`, counted in the order of the values.
    Ramp {
        /// From one value to the next.
        step: f64,
        /// Values until it starts at 0 again.
        period: usize,
    },
    /// A random matrix with orthonormal rows or columns, whichever are fewer, times `gain·√(max(1, out/in))`.
    Orthogonal {
        /// The factor.
        gain: f64,
    },
    /// `first + range·(h/(A−1))^power`: slow channels first.
    TimeDecay {
        /// That of the slowest channel.
        first: f64,
        /// What the fastest has more.
        range: f64,
        /// Larger in upper layers, which then have more slow channels.
        power: f64,
    },
    /// `ln(share) + zigzag·((i+1) mod 3 − 1)`.
    TimeFirst {
        /// The middle, before the logarithm.
        share: f64,
        /// The step up and down.
        zigzag: f64,
    },
    /// `(i/C)^power + offset`.
    TimeMix {
        /// Smaller in upper layers, which then look more at the current token.
        power: f64,
        /// Lifts the value mix above 1 in upper layers.
        offset: f64,
    },
}

impl Rule {
    /// The rule of the parameter with this official name, as in `blocks.3.att.time_decay`.
    ///
    /// # Panics
    /// For a name that no model of this configuration has.
    #[must_use]
    pub fn of(name: &str, config: &RwkvConfig) -> Self {
        let parts: Vec<&str> = name.split('.').collect();
        let layer: usize = match parts.as_slice() {
            ["blocks", layer, ..] => layer.parse().unwrap_or_else(|_| panic!("no layer number in {name}")),
            _ => 0,
        };
        let (layer, layers) = (layer as f64, config.n_layer as f64);
        let rho_0 = if config.n_layer > 1 { layer / (layers - 1.0) } else { 0.0 };
        let rho_1 = 1.0 - layer / layers;
        let local = if parts[0] == "blocks" { &parts[2..] } else { &parts[..] };
        if let Some(rule) = super::mixers::rule(local, config) {
            return rule;
        }
        let ratios = &config.init;
        match local {
            ["emb", "weight"] => match ratios.emb_std {
                None => Self::Uniform { scale: config.emb_init_scale },
                Some(std) => Self::Normal { std },
            },
            ["ln0" | "ln1" | "ln2" | "ln_out", "weight"] => Self::Ones,
            ["ln0" | "ln1" | "ln2" | "ln_out", "bias"] => Self::Zeros,
            ["att", "time_decay"] => Self::TimeDecay {
                first: ratios.decay_first,
                range: ratios.decay_range,
                power: ratios.decay_power + ratios.decay_power_by_layer * rho_0,
            },
            ["att", "time_first"] => Self::TimeFirst { share: ratios.first, zigzag: ratios.first_zigzag },
            ["att", "time_mix_v"] | ["att", "tiny", "time_mix_vv"] => {
                Self::TimeMix { power: ratios.mix_power * rho_1, offset: ratios.mix_value_lift * rho_0 }
            }
            ["att", "time_mix_r"] => {
                Self::TimeMix { power: ratios.mix_receptance * (ratios.mix_power * rho_1), offset: 0.0 }
            }
            ["att" | "ffn", "time_mix_k"] | ["ffn", "time_mix_r"] | ["att", "tiny", "time_mix_qq" | "time_mix_kk"] => {
                Self::TimeMix { power: ratios.mix_power * rho_1, offset: 0.0 }
            }
            ["att", "value", "weight"] => Self::Orthogonal { gain: ratios.value_gain },
            ["ffn", "key", "weight"] => Self::Orthogonal { gain: ratios.ffn_key_gain },
            ["head", "weight"] => Self::Orthogonal { gain: ratios.head_gain },
            ["att", "key" | "receptance" | "output", "weight"] | ["ffn", "value" | "receptance", "weight"] => {
                if ratios.zero_gain == 0.0 { Self::Zeros } else { Self::Orthogonal { gain: ratios.zero_gain } }
            }
            ["att", "key" | "value" | "receptance", "lora_a"]
            | ["ffn", "key" | "receptance", "lora_a"]
            | ["head", "lora_a"] => Self::Uniform { scale: (config.n_embd as f64).powf(-0.5) },
            ["att", "output", "lora_a"] => Self::Uniform { scale: (config.dim_att as f64).powf(-0.5) },
            ["ffn", "value", "lora_a"] => Self::Uniform { scale: (config.dim_ffn as f64).powf(-0.5) },
            ["att" | "ffn", _, "lora_b"] | ["head", "lora_b"] => Self::Zeros,
            _ => panic!("no RWKV-4 parameter is called {name}"),
        }
    }

    /// The values of a parameter of this shape (matrices `[out, in]`), row by row.
    fn values(self, shape: &[usize], rng: &mut impl Rng) -> Vec<f32> {
        let len: usize = shape.iter().product();
        let indexed = |f: &dyn Fn(usize) -> f64| (0..len).map(|i| f(i) as f32).collect();
        match self {
            Self::Zeros => vec![0.0; len],
            Self::Ones => vec![1.0; len],
            Self::Normal { std } => {
                let normal = |_| (std * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng)) as f32;
                (0..len).map(normal).collect()
            }
            Self::Uniform { scale } => (0..len).map(|_| (scale * rng.random_range(-1.0..1.0)) as f32).collect(),
            Self::LogUniform { low, high } => {
                let (low, width) = (low.ln(), high.ln() - low.ln());
                (0..len).map(|_| (low + width * rng.random_range(0.0..1.0)) as f32).collect()
            }
            Self::Ramp { step, period } => indexed(&|i| step * (i % period) as f64),
            Self::Orthogonal { gain } => orthogonal(shape[0], shape[1], gain, rng),
            Self::TimeDecay { first, range, power } => {
                let last = (len - 1).max(1) as f64; // one channel: it starts at −5
                indexed(&|h| first + range * (h as f64 / last).powf(power))
            }
            Self::TimeFirst { share, zigzag } => indexed(&|i| share.ln() + zigzag * (((i + 1) % 3) as f64 - 1.0)),
            Self::TimeMix { power, offset } => indexed(&|i| (i as f64 / len as f64).powf(power) + offset),
        }
    }
}

/// A Haar-random matrix `[out, in]` with orthonormal columns (or rows, when there are more of them than rows), times
/// `gain·√(max(1, out/in))`.
///
/// Householder QR of a Gaussian matrix, each column signed as `R`'s diagonal, as `torch.nn.init.orthogonal_` does.
fn orthogonal(out: usize, inputs: usize, gain: f64, rng: &mut impl Rng) -> Vec<f32> {
    let (long, short) = (out.max(inputs), out.min(inputs));
    // `short` vectors of `long` numbers; they become reflectors, and then the basis.
    let mut reflectors: Vec<Vec<f32>> =
        (0..short).map(|_| (0..long).map(|_| StandardNormal.sample(rng)).collect()).collect();
    let mut signs = Vec::with_capacity(short);
    for i in 0..short {
        let (done, rest) = reflectors.split_at_mut(i + 1);
        let v = &mut done[i][i..];
        let norm = dot(v, v).sqrt();
        let sign = if v[0] < 0.0 { -1.0 } else { 1.0 };
        // H x = −sign·‖x‖·e₁, so R's diagonal has the sign −sign.
        signs.push(-sign);
        v[0] += sign * norm;
        let scale = 1.0 / dot(v, v).sqrt().max(f32::MIN_POSITIVE);
        v.iter_mut().for_each(|x| *x *= scale);
        let v = &done[i][i..];
        rest.iter_mut().for_each(|column| reflect(v, &mut column[i..]));
    }
    let scale = gain * (out as f64 / inputs as f64).max(1.0).sqrt();
    let mut matrix = vec![0.0; out * inputs];
    for j in 0..short {
        // Column j of Q = H₀ H₁ … applied to e_j; reflectors past j leave e_j alone.
        let mut column = vec![0.0; long];
        column[j] = signs[j];
        for i in (0..=j).rev() {
            reflect(&reflectors[i][i..], &mut column[i..]);
        }
        for (row, x) in column.into_iter().enumerate() {
            let index = if out >= inputs { row * inputs + j } else { j * inputs + row };
            matrix[index] = (scale * f64::from(x)) as f32;
        }
    }
    matrix
}

/// `x ← x − 2 v (v·x)` for a unit vector `v`.
fn reflect(v: &[f32], x: &mut [f32]) {
    let twice = 2.0 * dot(v, x);
    x.iter_mut().zip(v).for_each(|(x, v)| *x -= twice * v);
}

/// The inner product, in eight partial sums so that it vectorises.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (x_chunks, y_chunks) = (x.chunks_exact(8), y.chunks_exact(8));
    let tail: f32 = x_chunks.remainder().iter().zip(y_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in x_chunks.zip(y_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Makes the parameters of one model.
pub(super) struct Initializer<'a, B: Backend> {
    pub config: &'a RwkvConfig,
    pub seed: u64,
    pub device: &'a B::Device,
}

impl<B: Backend> Initializer<'_, B> {
    /// The parameter of this name, in the official layout. It takes no memory until it is first used.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Param<Tensor<B, D>> {
        self.lazy(name, shape, shape, |values| values)
    }

    /// The matrix of this name, officially `[out, in]`, in Burn's layout `[in, out]`.
    pub fn matrix(&self, name: &str, inputs: usize, out: usize) -> Param<Tensor<B, 2>> {
        let transpose = move |values: Vec<f32>| {
            (0..inputs).flat_map(|i| values.iter().skip(i).step_by(inputs).copied().collect::<Vec<_>>()).collect()
        };
        self.lazy(name, [out, inputs], [inputs, out], transpose)
    }

    fn lazy<const D: usize>(
        &self,
        name: &str,
        official: [usize; D],
        stored: [usize; D],
        arrange: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<B, D>> {
        let rule = Rule::of(name, self.config);
        let stream = stream_of(name);
        let seed = self.seed;
        Param::uninitialized(
            id_of(name),
            move |device, require_grad| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream);
                let values = arrange(rule.values(&official, &mut rng));
                Tensor::from_data(TensorData::new(values, stored), (device, DType::F32)).set_require_grad(require_grad)
            },
            self.device.clone(),
            true,
            Shape::new(stored),
        )
    }
}

/// The id of the parameter of this name. It follows from the name, so that an optimizer's record finds its parameters in
/// another process.
pub(crate) fn id_of(name: &str) -> ParamId {
    ParamId::from(stream_of(name))
}

/// A number that belongs to a parameter's name: 64-bit FNV-1a.
fn stream_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
