//! The analytic backward passes as nodes of Burn's autodiff graph.

use super::RwkvBackend;
use super::head_loss::{HeadLossInputs, chunked};
use super::linear;
use super::packed::PackedMatrix;
use super::token_shift;
use super::wkv::{self, WkvForward, WkvInputs};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::{FloatTensor, IntTensor};
use std::fmt::Debug;
use std::marker::PhantomData;

impl<B: RwkvBackend, C: CheckpointStrategy> RwkvBackend for Autodiff<B, C> {
    const IN_MAIN_MEMORY: bool = B::IN_MAIN_MEMORY;

    fn max_tensor_bytes(device: &Self::Device) -> usize {
        B::max_tensor_bytes(device)
    }

    fn burst<T>(work: impl FnOnce() -> T) -> T {
        B::burst(work)
    }

    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        wkv::autodiff::forward(inputs, with_lse)
    }

    fn token_shift_forward(
        x: FloatTensor<Self>,
        last: FloatTensor<Self>,
        mu: Vec<FloatTensor<Self>>,
    ) -> Vec<FloatTensor<Self>> {
        token_shift::autodiff::forward::<B, C>(x, last, mu)
    }

    fn layer_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let saved = (x.primitive.clone(), weight.primitive.clone(), epsilon);
        let out = B::layer_norm_forward(saved.0.clone(), saved.1.clone(), bias.primitive.clone(), epsilon);
        record::<B, C, _, _>([x, weight, bias], out, saved, |(x, weight, epsilon), grad| {
            B::layer_norm_backward(x, weight, grad, epsilon)
        })
    }

    fn gate_forward(r: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let saved = (r.primitive.clone(), y.primitive.clone());
        let out = B::gate_forward(saved.0.clone(), saved.1.clone());
        record::<B, C, _, _>([r, y], out, saved, |(r, y), grad| B::gate_backward(r, y, grad))
    }

    fn squared_relu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = B::squared_relu_forward(x.primitive.clone());
        let saved = x.primitive.clone();
        record::<B, C, _, _>([x], out, saved, |x, grad| [B::squared_relu_backward(x, grad)])
    }

    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::autodiff::forward::<B, C>(x, weight)
    }

    fn embedding_forward(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        let vocab = table.primitive.shape()[0];
        let out = B::embedding_forward(table.primitive.clone(), tokens.clone());
        record::<B, C, _, _>([table], out, (tokens, vocab), |(tokens, vocab), grad| {
            [B::embedding_table_backward(tokens, grad, vocab)]
        })
    }

    fn packed_linear_forward(x: FloatTensor<Self>, weight: &PackedMatrix) -> FloatTensor<Self> {
        let out = B::packed_linear_forward(x.primitive.clone(), weight);
        record::<B, C, _, _>([x], out, weight.clone(), |weight, grad| [B::packed_linear_backward(&weight, grad)])
    }

    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        l2_wrap: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (loss, lse) = B::cross_entropy_forward(logits.primitive.clone(), targets.clone(), l2_wrap);
        let saved = (logits.primitive.clone(), targets, lse.clone(), l2_wrap);
        let loss = record::<B, C, _, _>([logits], loss, saved, |(logits, targets, lse, l2_wrap), grad| {
            [B::cross_entropy_backward(logits, targets, lse, grad, l2_wrap)]
        });
        (loss, Self::from_inner(lse))
    }

    fn auxiliary_forward(x: FloatTensor<Self>, loss: FloatTensor<Self>) -> FloatTensor<Self> {
        let (out, saved) = (x.primitive.clone(), loss.primitive.clone());
        record::<B, C, _, _>([x, loss], out, saved, |loss, grad| {
            let device = B::float_device(&loss);
            let one = B::float_ones(loss.shape(), &device, loss.dtype().into());
            [grad, one]
        })
    }

    fn head_loss_forward(inputs: HeadLossInputs<Self>) -> FloatTensor<Self> {
        let HeadLossInputs { x, weight, targets, weights, l2_wrap, chunk } = inputs;
        let nodes = [x.node, weight.node];
        let [wants_x, wants_weight] = [0, 1].map(|i| !nodes[i].requirement.is_none());
        let (x, weight, weights) = (x.primitive, weight.primitive, weights.primitive);
        let inner = HeadLossInputs { x, weight, targets, weights, l2_wrap, chunk };
        match HeadLoss.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(node) => {
                let (loss, to_x, to_weight) = chunked::with_gradients::<B>(inner, wants_x, wants_weight);
                node.finish([to_x, to_weight], loss)
            }
            OpsKind::UnTracked(node) => node.finish(chunked::value::<B>(inner)),
        }
    }
}

/// A sum whose gradients were computed with it: they are only multiplied by the number that arrives.
#[derive(Debug)]
struct HeadLoss;

impl<B: Backend> Backward<B, 2> for HeadLoss {
    type State = [Option<FloatTensor<B>>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let arrived = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                let factor = super::cast::<B>(arrived.clone(), gradient.dtype());
                let factor = B::float_reshape(factor, [1, 1].into());
                grads.register::<B>(node.id, B::float_mul(gradient, factor));
            }
        }
    }
}

/// Puts `output` into the graph as one node, whose backward pass turns the gradient of `output`, and what was saved, into
/// those of the parents.
fn record<B: RwkvBackend, C: CheckpointStrategy, S: Clone + Debug + Send + 'static, const N: usize>(
    parents: [FloatTensor<Autodiff<B, C>>; N],
    output: FloatTensor<B>,
    saved: S,
    gradients: fn(S, FloatTensor<B>) -> [FloatTensor<B>; N],
) -> FloatTensor<Autodiff<B, C>> {
    match Analytic::<S>(PhantomData).prepare::<C>(parents.map(|parent| parent.node)).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((saved, gradients), output),
        OpsKind::UnTracked(node) => node.finish(output),
    }
}

/// A node with one output and a backward pass of its own.
#[derive(Debug)]
struct Analytic<S>(PhantomData<fn(S)>);

impl<B: Backend, S: Clone + Debug + Send + 'static, const N: usize> Backward<B, N> for Analytic<S> {
    type State = (S, fn(S, FloatTensor<B>) -> [FloatTensor<B>; N]);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (saved, gradients) = ops.state;
        let arrived = grads.consume::<B>(&ops.node);
        register::<B, N>(ops.parents.map(|parent| parent.map(|node| node.id)), grads, gradients(saved, arrived));
    }
}

/// Adds the gradients of the parents that want one.
pub(super) fn register<B: Backend, const N: usize>(
    parents: [Option<NodeId>; N],
    grads: &mut Gradients,
    gradients: [FloatTensor<B>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(id) = parent {
            grads.register::<B>(id, gradient);
        }
    }
}
