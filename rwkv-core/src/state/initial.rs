//! An initial state that trains: what a conversation begins with, in the place of the empty state.

use super::{LayerState, State};
use crate::config::RwkvConfig;
use crate::model::init::id_of;
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// The log-weight with which [`InitialState::new`] starts: the weight of a token whose key is 0.
///
/// It hardly disturbs the model, and learns more than smaller ones. With "before" for the loss of what the model knew, when
/// nothing is trained yet, and "right" for the answers to questions held out from a tuning of 300 steps, means over five
/// models of two layers of width 32, three tasks each and two learning rates:
///
/// | start | before | right |
/// |---|---|---|
/// | no state | 0.018 | 0% |
/// | `q = −2` | 0.019 | 57% |
/// | **`q = 0`** | **0.051** | **73%** |
/// | `q = 2` | 0.50 | 81% |
/// | [the state after](InitialState::from_state) a newline | 0.038 | 57% |
/// | the state after the words for another task | 2.2 | 89% |
///
/// At `q = −16` the weight does not move at all, and only the shifts learn.
pub const INITIAL_LOG_WEIGHT: f64 = 0.0;

/// The state before the first token, of one sequence, as parameters: to tune a model by training nothing else.
///
/// The WKV state of a channel is a weighted mean of what was read: it is kept as that mean, `m`, and the logarithm of its
/// weight, `q`, and stands for `a = m`, `b = 1`, `p = q`. Whatever training makes of the two, that is a valid state. An
/// empty state has the weight 0, and with it no gradient, so none is a start; [`Self::new`] starts with `m = 0` at
/// a [weight](INITIAL_LOG_WEIGHT) that trains well, [`Self::from_state`] with what the model has read.
///
/// Adam's learning rate is that of the numbers themselves and far above that of a whole model: `1e-2` to `1e-1`.
///
/// A tuned state is saved as a [`State`] of the model whose weights it was tuned for.
///
/// # Example
/// ```
/// use rwkv_core::config::RwkvConfig;
/// use rwkv_core::model::Rwkv;
/// use rwkv_core::state::InitialState;
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Autodiff<burn::backend::Flex>;
/// let device = Default::default();
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &device).frozen();
/// let initial = InitialState::new(&model.config(), &device);
/// let tokens = burn::tensor::Tensor::from_data([[1, 2, 3], [4, 5, 6]], &device);
/// let (logits, _) = model.forward(tokens, initial.state(2)); // train `initial` by a loss of these
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state.safetensors");
/// initial.state(1).save(&path, &model.fingerprint())?;
/// # assert_eq!(logits.dims(), [2, 3, 65]);
/// # }
/// # Ok::<_, rwkv_core::error::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct InitialState<B: Backend> {
    /// The layers, from the first block to the last.
    pub layers: Vec<InitialLayer<B>>,
}

/// One layer of an [`InitialState`].
#[derive(Module, Debug)]
pub struct InitialLayer<B: Backend> {
    /// The time-mix's input before the first token, `[C]`.
    pub att_x: Param<Tensor<B, 1>>,
    /// The channel-mix's input before the first token, `[C]`.
    pub ffn_x: Param<Tensor<B, 1>>,
    /// The WKV state's mean, `m`, `[A]`.
    pub mean: Param<Tensor<B, 1>>,
    /// The logarithm of its weight, `q`, `[A]`.
    pub log_weight: Param<Tensor<B, 1>>,
}

impl<B: Backend> InitialState<B> {
    /// The start of a tuning from nothing: zeros, at the weight `e^q` with `q =` [`INITIAL_LOG_WEIGHT`].
    #[must_use]
    pub fn new(config: &RwkvConfig, device: &B::Device) -> Self {
        Self::with_log_weight(config, INITIAL_LOG_WEIGHT, device)
    }

    /// [`Self::new`] at another weight.
    #[must_use]
    pub fn with_log_weight(config: &RwkvConfig, log_weight: f64, device: &B::Device) -> Self {
        let fill = |size: usize, value: f64| Tensor::full([size], value, (device, DType::F32));
        let layer = |l: usize| {
            let (c, a) = (config.n_embd, config.dim_att);
            InitialLayer::new(l, [fill(c, 0.0), fill(c, 0.0), fill(a, 0.0), fill(a, log_weight)])
        };
        Self { layers: (0..config.n_layer).map(layer).collect() }
    }

    /// The start of a tuning from a state, such as that after a prompt, or one that was tuned before. Of a batch it takes
    /// the first sequence. Channels that are empty start as in [`Self::new`].
    #[must_use]
    pub fn from_state(state: &State<B>) -> Self {
        let layer = |(l, layer): (usize, &LayerState<B>)| {
            let device = layer.att_x.device();
            let [_, width] = layer.att_x.dims();
            let [_, _, channels] = layer.memory.dims();
            let numbers: Vec<f32> =
                layer.memory.clone().narrow(0, 0, 1).into_data().convert_dtype(DType::F32).iter().collect();
            let of_channel = |c: usize| {
                let [a, b, p] = [0, 1, 2].map(|row| numbers[row * channels + c]);
                let log_weight = p + b.ln();
                // A weight that no float holds next to any token's trains no better than none.
                if b > 0.0 && log_weight > -1e3 { (a / b, log_weight) } else { (0.0, INITIAL_LOG_WEIGHT as f32) }
            };
            let (means, weights): (Vec<f32>, Vec<f32>) = (0..channels).map(of_channel).unzip();
            let vector =
                |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [channels]), (&device, DType::F32));
            let first = |x: &Tensor<B, 2>| x.clone().detach().narrow(0, 0, 1).reshape([width]);
            InitialLayer::new(l, [first(&layer.att_x), first(&layer.ffn_x), vector(means), vector(weights)])
        };
        Self { layers: state.layers.iter().enumerate().map(layer).collect() }
    }

    /// The state for `batch` sequences, each of which passes its gradients on to these parameters.
    #[must_use]
    pub fn state(&self, batch: usize) -> State<B> {
        State { layers: self.layers.iter().map(|layer| layer.state(batch)).collect() }
    }
}

impl<B: Backend> InitialLayer<B> {
    fn new(layer: usize, [att_x, ffn_x, mean, log_weight]: [Tensor<B, 1>; 4]) -> Self {
        // Ids follow from names, as those of the model's parameters.
        let parameter = |name: &str, tensor: Tensor<B, 1>| {
            Param::initialized(id_of(&format!("initial_state.layers.{layer}.{name}")), tensor.require_grad())
        };
        Self {
            att_x: parameter("att_x", att_x),
            ffn_x: parameter("ffn_x", ffn_x),
            mean: parameter("mean", mean),
            log_weight: parameter("log_weight", log_weight),
        }
    }

    fn state(&self, batch: usize) -> LayerState<B> {
        let rows = |param: &Param<Tensor<B, 1>>| {
            let [size] = param.dims();
            param.val().unsqueeze::<2>().expand([batch, size])
        };
        let (mean, log_weight) = (rows(&self.mean), rows(&self.log_weight));
        let ones = mean.ones_like();
        LayerState {
            att_x: rows(&self.att_x),
            ffn_x: rows(&self.ffn_x),
            memory: Tensor::stack(vec![mean, ones, log_weight], 1),
        }
    }
}
