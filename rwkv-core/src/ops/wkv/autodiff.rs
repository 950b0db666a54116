//! The analytic backward pass of WKV as nodes of Burn's autodiff graph.
//!
//! A node of that graph has one output, and WKV has two. The operation therefore becomes two nodes with the same parents,
//! one for `y` and one for the final state, computed by one forward pass. Gradients are linear in what arrives, so each
//! node runs the backward sweep for its own output and the graph adds them up; when a loss does not use the final state,
//! as in ordinary training, its node is never visited and costs nothing. (`docs/adr/0002-two-nodes-for-wkv.md`)

use super::{EMPTY_EXPONENT, WkvForward, WkvGradients, WkvInputs, WkvSaved, portable};
use crate::ops::autodiff::register;
use crate::ops::{RwkvBackend, primitive, tensor};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{FloatDType, Tensor, TensorMetadata};

/// [`RwkvBackend::wkv_forward`] of `Autodiff<B>`.
pub(in crate::ops) fn forward<B: RwkvBackend, C: CheckpointStrategy>(
    inputs: WkvInputs<Autodiff<B, C>>,
    with_lse: bool,
) -> WkvForward<Autodiff<B, C>> {
    if with_lse {
        // Asked for by an autodiff backend around this one: its gradients are differentiated once more, which the
        // plain operations can be.
        return portable::forward(inputs, with_lse);
    }
    let WkvInputs { w, u, k, v, state } = inputs;
    let parents = [w.node.clone(), u.node.clone(), k.node.clone(), v.node.clone(), state.node.clone()];
    let inputs =
        WkvInputs::<B> { w: w.primitive, u: u.primitive, k: k.primitive, v: v.primitive, state: state.primitive };
    match (
        WkvOutput.prepare::<C>(parents.clone()).compute_bound().stateful(),
        WkvFinalState.prepare::<C>(parents).compute_bound().stateful(),
    ) {
        (OpsKind::Tracked(for_y), OpsKind::Tracked(for_state)) => {
            let WkvForward { y, state, lse } = B::wkv_forward(inputs.clone(), true);
            let lse = lse.expect("wkv_forward(_, true) returns the log-denominators");
            let saved = WkvSaved { inputs, y: y.clone(), lse };
            WkvForward {
                y: for_y.finish(saved.clone(), y),
                state: for_state.finish((saved, state.clone()), state),
                lse: None,
            }
        }
        (OpsKind::UnTracked(for_y), OpsKind::UnTracked(for_state)) => {
            let WkvForward { y, state, .. } = B::wkv_forward(inputs, false);
            WkvForward { y: for_y.finish(y), state: for_state.finish(state), lse: None }
        }
        _ => unreachable!("both nodes have the same parents, so both are tracked or neither is"),
    }
}

/// The node of the outputs `y`.
#[derive(Debug)]
struct WkvOutput;

impl<B: RwkvBackend> Backward<B, 5> for WkvOutput {
    type State = WkvSaved<B>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gy = grads.consume::<B>(&ops.node);
        let state = tensor::<B, 3>(ops.state.inputs.state.clone());
        // Nothing arrives at the final state: zero adjoints, at an exponent that any token outweighs.
        let [batch, _, channels] = state.dims();
        let zeros = Tensor::<B, 3>::zeros([batch, 2, channels], (&state.device(), state.dtype()));
        let exponent = Tensor::full([batch, 1, channels], EMPTY_EXPONENT, (&state.device(), state.dtype()));
        let adjoint = Tensor::cat(vec![zeros, exponent], 1);
        let gradients = B::wkv_backward(ops.state, gy, primitive(adjoint));
        register::<B, 5>(ops.parents.map(|parent| parent.map(|node| node.id)), grads, fields(gradients));
    }
}

/// The node of the state after the last token.
#[derive(Debug)]
struct WkvFinalState;

impl<B: RwkvBackend> Backward<B, 5> for WkvFinalState {
    /// What the forward pass saved, and the state that it returned.
    type State = (WkvSaved<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor::<B, 3>(grads.consume::<B>(&ops.node));
        let (saved, state) = ops.state;
        // For a loss of (a·eᵖ, b·eᵖ): dL/dA = (dL/da)·e^−p, so the adjoints are the gradients of a and b at −p.
        let exponent = tensor::<B, 3>(state).narrow(1, 2, 1).neg();
        let adjoint = Tensor::cat(vec![gradient.narrow(1, 0, 2), exponent], 1);
        let y = saved.y.clone();
        let gy = B::float_zeros(y.shape(), &B::float_device(&y), FloatDType::from(y.dtype()));
        let gradients = B::wkv_backward(saved, gy, primitive(adjoint));
        register::<B, 5>(ops.parents.map(|parent| parent.map(|node| node.id)), grads, fields(gradients));
    }
}

/// The gradients in the order of the parents.
fn fields<B: RwkvBackend>(gradients: WkvGradients<B>) -> [FloatTensor<B>; 5] {
    let WkvGradients { w, u, k, v, state } = gradients;
    [w, u, k, v, state]
}
