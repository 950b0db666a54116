//! The projection as a node of Burn's autodiff graph, which computes only the gradients that are wanted: where adapters
//! learn, the matrices beside them do not.

use crate::ops::RwkvBackend;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::FloatTensor;

/// [`RwkvBackend::linear_forward`] of `Autodiff<B>`.
pub(in crate::ops) fn forward<B: RwkvBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node, weight.node];
    let [wants_x, wants_weight] = [0, 1].map(|i| !nodes[i].requirement.is_none());
    let (x, weight) = (x.primitive, weight.primitive);
    match Linear.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(node) => {
            let saved = (wants_weight.then(|| x.clone()), wants_x.then(|| weight.clone()));
            node.finish(saved, B::linear_forward(x, weight))
        }
        OpsKind::UnTracked(node) => node.finish(B::linear_forward(x, weight)),
    }
}

#[derive(Debug)]
struct Linear;

impl<B: RwkvBackend> Backward<B, 2> for Linear {
    /// `x` where the weight learns, the weight where `x` does.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let arrived = grads.consume::<B>(&ops.node);
        let ([of_x, of_weight], (x, weight)) = (ops.parents, ops.state);
        if let (Some(node), Some(x)) = (of_weight, x) {
            grads.register::<B>(node.id, B::linear_backward_weight(x, arrived.clone()));
        }
        if let (Some(node), Some(weight)) = (of_x, weight) {
            grads.register::<B>(node.id, B::linear_backward_x(weight, arrived));
        }
    }
}
