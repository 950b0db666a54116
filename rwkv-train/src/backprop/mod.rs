//! Gradients of a batch, in as much memory as one likes to spend.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Backprop`]: the way through time, whole or in chunks |
//! | `stretch.rs` | a stretch of time as one graph |
//! | `blocks.rs` | a stretch of time, block by block |
//! | `states.rs` | states at the seams between graphs |
//! | `precision.rs` | the matrices in the numbers of the passes |
//!
//! The memory of a step is, for `B` rows of `T` inputs, `L` blocks of width `C`, in numbers:
//!
//! | | kept between the passes |
//! |---|---|
//! | one graph | about `30·B·T·C·L` activations |
//! | `checkpoint_blocks` | `B·T·C·L`, the blocks' inputs, and the graph of one block; every block runs once more |
//! | `bptt_chunk = S` | the same with `S` in the place of `T`, and `5·B·C·L` numbers of state a chunk; every chunk runs once more |
//! | `loss_chunk` | that many rows of logits in the place of `B·T` |
//!
//! All of them give the gradients of the one graph, up to the order of additions; `bptt = "truncated"` does not.

mod blocks;
mod precision;
mod states;
mod stretch;

use crate::config::{Bptt, Precision, RunConfig};
use crate::data::Batch;
use crate::dropout::Dropout;
use crate::trainee::Trainee;
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::model::{Restarts, Rwkv};
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::State;
use states::{dot, gradients_of, inner, leaf};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use stretch::{Passed, Stretch};

/// Burn 0.21's autodiff keeps the graphs of all threads in one place. Passes of several threads at once were seen to give
/// wrong gradients now and then (a test in thirty runs under load), passes one after the other never; so threads of a
/// process take turns. On a CPU a pass uses all cores anyway; on GPUs what takes turns is the queueing of the work.
static GRAPHS: Mutex<()> = Mutex::new(());

/// How gradients are computed.
///
/// # Example
/// ```
/// use burn::backend::{Autodiff, Flex};
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_train::backprop::Backprop;
/// use rwkv_train::config::RunConfig;
/// use rwkv_train::data::{Batch, Sample};
/// use rwkv_train::trainee::Trainee;
/// # #[cfg(feature = "flex")] {
/// let config = RunConfig::from_toml("[train]\ncheckpoint_blocks = true\nbptt_chunk = 4").unwrap();
/// let model = Rwkv::<Autodiff<Flex>>::new(&RwkvConfig::new(20, 2, 16), 0, &Default::default());
/// let trainee = Trainee::new(model, &config).unwrap();
/// let batch = Batch::new([Sample::plain((0..17).collect())].into_iter(), 16);
/// let (loss, grads) = Backprop::new(&config).gradients(&trainee, &batch, 0..1, 1.0 / batch.weight());
/// assert_eq!(grads.len(), trainee.named_parameters().len());
/// assert!((loss.into_scalar() - 20f32.ln()).abs() < 1.0);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backprop {
    precision: Precision,
    checkpoint_blocks: bool,
    loss_chunk: usize,
    bptt_chunk: usize,
    bptt: Bptt,
    l2_wrap: f32,
    dropout: f64,
    seed: u64,
}

impl Backprop {
    /// As a run's configuration says.
    #[must_use]
    pub fn new(config: &RunConfig) -> Self {
        let train = &config.train;
        Self {
            precision: train.precision,
            checkpoint_blocks: train.checkpoint_blocks,
            loss_chunk: train.loss_chunk,
            bptt_chunk: train.bptt_chunk,
            bptt: train.bptt,
            l2_wrap: train.l2_wrap as f32,
            dropout: train.dropout,
            seed: train.seed,
        }
    }

    /// The loss of a batch times `scale`, `[1]`, and its gradients for everything that asks for one.
    ///
    /// The loss is the sum over all targets of cross-entropy times weight. With `scale` one over the weight of a whole
    /// step's targets, sums over micro-batches and workers are the mean loss of the step and its gradients. `samples` are
    /// the numbers of the batch's samples, for dropout.
    ///
    /// # Panics
    /// For a batch without rows.
    pub fn gradients<B: RwkvAutodiffBackend>(
        &self,
        trainee: &Trainee<B>,
        batch: &Batch,
        samples: Range<u64>,
        scale: f64,
    ) -> (Tensor<B::InnerBackend, 1>, GradientsParams) {
        let _alone = GRAPHS.lock().unwrap_or_else(PoisonError::into_inner);
        let start: State<B> = trainee.start(1);
        let tunes = trainee.initial_state.is_some();
        let fresh = inner(&start);
        let rows = fresh.select(&vec![0; batch.size()]);
        let bounds = self.bounds(batch.ctx_len);
        let carries = bounds.len() > 1 && self.bptt == Bptt::Exact;
        let stretch = |(from, to): (usize, usize), state: State<B::InnerBackend>| Stretch {
            batch: batch.slice(from, to),
            dropout: Dropout::new(self.dropout, self.seed, samples.clone(), from),
            state,
            fresh: fresh.clone(),
            adjoint: None,
            wants_states: tunes || (carries && from > 0),
            scale,
        };
        let mut total = Sum::<B>::default();
        let (mut to_start, mut to_fresh) = (None, None);
        if carries {
            // Down the time for the states at the seams, then up again with the gradients.
            let mut states = vec![rows];
            let model = precision::of(&trainee.model.valid(), self.precision);
            for &bounds in &bounds[..bounds.len() - 1] {
                let mut piece = stretch(bounds, states.last().expect("it begins with one").clone());
                states.push(piece.read(&model));
            }
            let mut adjoint = None;
            for (&bounds, state) in bounds.iter().zip(states).rev() {
                let mut piece = stretch(bounds, state);
                piece.adjoint = adjoint;
                let passed = self.pass(&trainee.model, piece);
                adjoint = passed.to_state.clone();
                to_fresh = states::sum(to_fresh, passed.to_fresh.clone());
                total.add(&trainee.model, passed);
            }
            to_start = adjoint;
        } else {
            let mut state = rows;
            for (i, &bounds) in bounds.iter().enumerate() {
                let passed = self.pass(&trainee.model, stretch(bounds, state));
                state = passed.state.clone();
                if i == 0 {
                    to_start = passed.to_state.clone();
                }
                to_fresh = states::sum(to_fresh, passed.to_fresh.clone());
                total.add(&trainee.model, passed);
            }
        }
        let mut grads = total.grads;
        if let (Some(initial), Some(to_start)) = (&trainee.initial_state, to_start) {
            // Every row starts from the same state.
            let objective = dot(&start, &states::sum_rows(&to_start));
            let objective = match &to_fresh {
                Some(to_fresh) => objective + dot(&start, to_fresh),
                None => objective,
            };
            let of_state = GradientsParams::from_grads(objective.backward(), initial);
            add(initial, &mut grads, of_state);
        }
        (total.loss.expect("a batch has at least one stretch"), grads)
    }

    fn pass<B: RwkvAutodiffBackend>(&self, model: &Rwkv<B>, stretch: Stretch<B>) -> Passed<B> {
        if self.checkpoint_blocks { blocks::pass(self, model, stretch) } else { stretch::pass(self, model, stretch) }
    }

    /// `from..to` of the chunks of `time` inputs.
    fn bounds(&self, time: usize) -> Vec<(usize, usize)> {
        let chunk = if self.bptt_chunk == 0 { time } else { self.bptt_chunk };
        (0..time).step_by(chunk).map(|from| (from, (from + chunk).min(time))).collect()
    }
}

/// Loss and gradients so far.
struct Sum<B: RwkvAutodiffBackend> {
    loss: Option<Tensor<B::InnerBackend, 1>>,
    grads: GradientsParams,
}

impl<B: RwkvAutodiffBackend> Default for Sum<B> {
    fn default() -> Self {
        Self { loss: None, grads: GradientsParams::new() }
    }
}

impl<B: RwkvAutodiffBackend> Sum<B> {
    fn add(&mut self, model: &Rwkv<B>, passed: Passed<B>) {
        self.loss = Some(match self.loss.take() {
            None => passed.loss,
            Some(sum) => sum + passed.loss,
        });
        add(model, &mut self.grads, passed.grads);
    }
}

/// Adds the gradients of a module's parameters to those in `sum`.
pub fn add<B: RwkvAutodiffBackend, M: Module<B>>(module: &M, sum: &mut GradientsParams, grads: GradientsParams) {
    if sum.is_empty() {
        *sum = grads;
        return;
    }
    struct Add<'a> {
        sum: &'a mut GradientsParams,
        grads: GradientsParams,
    }
    impl<B: RwkvAutodiffBackend> ModuleVisitor<B> for Add<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let Some(more) = self.grads.remove::<B::InnerBackend, D>(param.id) else { return };
            let total = match self.sum.remove::<B::InnerBackend, D>(param.id) {
                None => more,
                Some(sum) => sum + more,
            };
            self.sum.register::<B::InnerBackend, D>(param.id, total);
        }
    }
    module.visit(&mut Add { sum, grads });
}

/// A batch on a device.
struct OnDevice<B: Backend> {
    inputs: Tensor<B, 2, Int>,
    targets: Tensor<B, 2, Int>,
    weights: Option<Tensor<B, 2>>,
}

impl<B: Backend> OnDevice<B> {
    fn new(batch: &Batch, device: &B::Device) -> Self {
        let (inputs, targets) = batch.tensors::<B>(device);
        let shape = [batch.size(), batch.ctx_len];
        let weights = batch.weights.clone().map(|weights| Tensor::from_data(TensorData::new(weights, shape), device));
        Self { inputs, targets, weights }
    }
}

/// The restarts of a batch, if there are any.
fn restarts<B: Backend>(batch: &Batch, fresh: &State<B>) -> Option<Restarts<B>> {
    (!batch.resets.is_empty()).then(|| Restarts::new(&batch.resets, batch.size(), fresh.clone()))
}
