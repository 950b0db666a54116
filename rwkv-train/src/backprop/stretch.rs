//! A stretch of time as one graph.

use super::{Backprop, OnDevice, dot, gradients_of, inner, leaf, precision, restarts};
use crate::data::Batch;
use crate::dropout::Dropout;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::State;

/// What goes into the pass over a stretch of time.
pub(super) struct Stretch<B: AutodiffBackend> {
    pub batch: Batch,
    pub dropout: Dropout,
    /// The state before it.
    pub state: State<B::InnerBackend>,
    /// The state from which rows start anew, of one sequence.
    pub fresh: State<B::InnerBackend>,
    /// The gradient of the state after it, from what comes later.
    pub adjoint: Option<State<B::InnerBackend>>,
    /// Whether the gradients of both states are of interest.
    pub wants_states: bool,
    /// What the loss is multiplied by.
    pub scale: f64,
}

/// What comes out of it.
pub(super) struct Passed<B: AutodiffBackend> {
    /// The scaled loss, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    pub grads: GradientsParams,
    /// The state after it.
    pub state: State<B::InnerBackend>,
    pub to_state: Option<State<B::InnerBackend>>,
    pub to_fresh: Option<State<B::InnerBackend>>,
}

impl<B: RwkvAutodiffBackend> Stretch<B> {
    /// The state after the stretch, without a graph.
    pub(super) fn read(&mut self, model: &Rwkv<B::InnerBackend>) -> State<B::InnerBackend> {
        let on_device = OnDevice::new(&self.batch, &model.device());
        let restarts = restarts(&self.batch, &self.fresh);
        model.hidden(on_device.inputs, self.state.clone(), restarts.as_ref(), &mut self.dropout).1
    }
}

pub(super) fn pass<B: RwkvAutodiffBackend>(how: &Backprop, model: &Rwkv<B>, mut stretch: Stretch<B>) -> Passed<B> {
    let OnDevice { inputs, targets, weights } = OnDevice::<B>::new(&stretch.batch, &model.device());
    let state: State<B> = leaf(&stretch.state, stretch.wants_states);
    let fresh: State<B> = leaf(&stretch.fresh, stretch.wants_states);
    let restarts = restarts(&stretch.batch, &fresh);
    let view = precision::of(model, how.precision);
    let (x, after) = view.hidden(inputs, state.clone(), restarts.as_ref(), &mut stretch.dropout);
    let loss = view.head_loss(x, targets, weights, how.l2_wrap, how.loss_chunk, &mut stretch.dropout);
    let loss = loss.mul_scalar(stretch.scale);
    let value = loss.clone().inner();
    let objective = match &stretch.adjoint {
        Some(adjoint) => loss + dot(&after, adjoint),
        None => loss,
    };
    let state_after = inner(&after);
    drop((after, view));
    let mut grads = objective.backward();
    let wanted = |leaf: &State<B>, grads: &B::Gradients| stretch.wants_states.then(|| gradients_of(leaf, grads));
    let (to_state, to_fresh) = (wanted(&state, &grads), wanted(&fresh, &grads));
    let grads = GradientsParams::from_module(&mut grads, model);
    Passed { loss: value, grads, state: state_after, to_state, to_fresh }
}
