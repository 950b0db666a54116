//! The recurrent state: all that the model remembers of the tokens so far.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`State`]: zeros, select, concatenate, detach |
//! | `file.rs` | states on disk |
//! | `fingerprint.rs` | [`Fingerprint`]: which model a state belongs to |
//! | `initial.rs` | [`InitialState`]: an initial state that trains |
//! | `official.rs` | [`StateLayout`]: the layouts of the official programs |

mod file;
mod fingerprint;
mod initial;
mod official;

pub use file::FORMAT_VERSION;
pub use fingerprint::Fingerprint;
pub(crate) use fingerprint::digest;
pub use initial::{INITIAL_LOG_WEIGHT, InitialLayer, InitialState};
pub use official::StateLayout;

use crate::config::RwkvConfig;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};

/// The state of one layer.
///
/// # Source
/// Reference §1.5; the five vectors of the official code.
#[derive(Debug, Clone)]
pub struct LayerState<B: Backend> {
    /// The time-mix's last input, after `ln1`: `[B, C]`.
    pub att_x: Tensor<B, 2>,
    /// The channel-mix's last input, after `ln2`: `[B, C]`.
    pub ffn_x: Tensor<B, 2>,
    /// The WKV state, rows `(a, b, p)`, officially `aa`, `bb`, `pp`: `[B, 3, A]`, in `f32`. Other
    /// [mixers](crate::model::Mixers) keep here what they know of the tokens so far, in shapes of their own.
    pub memory: Tensor<B, 3>,
}

/// The state of the whole model: a plain value, of a size that does not grow with the text (but for attention's).
///
/// Nothing changes a state in place, so a clone is a fork: clone it to try two continuations, and neither sees the
/// other. A clone shares the tensors' memory and costs next to nothing. [`select`](Self::select) and [`cat`](Self::cat)
/// take batches apart and put them together.
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::{config::RwkvConfig, model::Rwkv, state::State};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &device);
/// let prompt = Tensor::<B, 2, Int>::from_data([[1, 2, 3]], &device);
/// let (_, state) = model.forward(prompt, model.zero_state(1));
/// // Two continuations of one prompt, as one batch.
/// let fork = State::cat(vec![state.clone(), state]);
/// let (logits, fork) = model.step(Tensor::from_data([4, 5], &device), fork);
/// assert_eq!(logits.dims(), [2, 65]);
/// let second = fork.select(&[1]);
/// assert_eq!(second.batch(), 1);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct State<B: Backend> {
    /// The layers' states, from the first block to the last.
    pub layers: Vec<LayerState<B>>,
}

impl<B: Backend> State<B> {
    /// The state before any token.
    #[must_use]
    pub fn zeros(config: &RwkvConfig, batch: usize, device: &B::Device) -> Self {
        let inputs = Tensor::zeros([batch, config.n_embd], (device, DType::F32));
        let layer = |l: usize| LayerState {
            att_x: inputs.clone(),
            ffn_x: inputs.clone(),
            memory: config.mixers.memory(config, l).tensor(batch, device),
        };
        Self { layers: (0..config.n_layer).map(layer).collect() }
    }

    /// How many sequences the state remembers.
    ///
    /// # Panics
    /// For a state without layers, which no model has.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.layers.first().expect("a model has at least one layer").att_x.dims()[0]
    }

    /// The memory that the state's values take: for one sequence in `f32`, `4·L·(2C + 3A)` bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        fn size<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> usize {
            tensor.shape().num_elements() * tensor.dtype().size()
        }
        self.layers.iter().map(|layer| size(&layer.att_x) + size(&layer.ffn_x) + size(&layer.memory)).sum()
    }

    /// One batch of all the sequences of `states`, in order.
    ///
    /// # Panics
    /// When there are none, or their models differ.
    #[must_use]
    pub fn cat(states: Vec<Self>) -> Self {
        let first = states.first().expect("at least one state to concatenate");
        let n_layer = first.layers.len();
        assert!(states.iter().all(|state| state.layers.len() == n_layer), "states of models with different layers");
        let layers = (0..n_layer)
            .map(|i| LayerState {
                att_x: Tensor::cat(states.iter().map(|state| state.layers[i].att_x.clone()).collect(), 0),
                ffn_x: Tensor::cat(states.iter().map(|state| state.layers[i].ffn_x.clone()).collect(), 0),
                memory: cat_memories(states.iter().map(|state| state.layers[i].memory.clone()).collect()),
            })
            .collect();
        Self { layers }
    }

    /// The states of these sequences, in this order; an index may repeat.
    ///
    /// # Panics
    /// When an index is not below [`Self::batch`].
    #[must_use]
    pub fn select(&self, sequences: &[usize]) -> Self {
        let batch = self.batch();
        assert!(sequences.iter().all(|&i| i < batch), "a state of {batch} sequences has no {sequences:?}");
        let indices: Vec<i64> = sequences.iter().map(|&i| i as i64).collect();
        self.map(|layer| {
            let device = layer.att_x.device();
            let indices = Tensor::<B, 1, Int>::from_data(indices.as_slice(), &device);
            LayerState {
                att_x: layer.att_x.clone().select(0, indices.clone()),
                ffn_x: layer.ffn_x.clone().select(0, indices.clone()),
                memory: layer.memory.clone().select(0, indices),
            }
        })
    }

    /// The same values, cut off from the autodiff graph: what truncated back-propagation through time hands on.
    #[must_use]
    pub fn detach(self) -> Self {
        self.map(|layer| LayerState {
            att_x: layer.att_x.clone().detach(),
            ffn_x: layer.ffn_x.clone().detach(),
            memory: layer.memory.clone().detach(),
        })
    }

    fn map(&self, f: impl Fn(&LayerState<B>) -> LayerState<B>) -> Self {
        Self { layers: self.layers.iter().map(f).collect() }
    }
}

/// One batch of memories. Those that grow with the text may differ in length: the shorter ones get zeros in front, which
/// stand for nothing.
fn cat_memories<B: Backend>(memories: Vec<Tensor<B, 3>>) -> Tensor<B, 3> {
    let longest = memories.iter().map(|memory| memory.dims()[1]).max().unwrap_or(0);
    let padded = memories.into_iter().map(|memory| {
        let [batch, slots, size] = memory.dims();
        match longest - slots {
            0 => memory,
            missing => {
                let empty = Tensor::zeros([batch, missing, size], (&memory.device(), memory.dtype()));
                Tensor::cat(vec![empty, memory], 1)
            }
        }
    });
    Tensor::cat(padded.collect(), 0)
}
