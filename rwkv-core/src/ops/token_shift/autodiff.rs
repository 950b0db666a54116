//! The token shift in Burn's autodiff graph.
//!
//! A node of that graph has one output, and the shift has several. Each output becomes a node without work: it leaves the
//! gradient that arrives with a node behind all of them, whose parents are the inputs. That one runs last and has
//! what arrived at every output, so one pass gives the gradients of all inputs. An output that no loss depends on leaves
//! nothing and costs nothing.

use super::TokenShiftGradients;
use crate::ops::RwkvBackend;
use crate::ops::autodiff::register;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use std::sync::{Arc, Mutex, PoisonError};

/// [`RwkvBackend::token_shift_forward`] of `Autodiff<B>`.
pub(in crate::ops) fn forward<B: RwkvBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    last: FloatTensor<Autodiff<B, C>>,
    mu: Vec<FloatTensor<Autodiff<B, C>>>,
) -> Vec<FloatTensor<Autodiff<B, C>>> {
    match mu.len() {
        0 => Vec::new(),
        1 => together::<B, C, 3>(x, last, mu),
        2 => together::<B, C, 4>(x, last, mu),
        3 => together::<B, C, 5>(x, last, mu),
        _ => {
            let mut mu = mu;
            let rest = mu.split_off(3);
            let mut outputs = together::<B, C, 5>(x.clone(), last.clone(), mu);
            outputs.extend(forward::<B, C>(x, last, rest));
            outputs
        }
    }
}

/// `P − 2` outputs that share a node with `P` parents: `x`, `last` and every `μ`.
fn together<B: RwkvBackend, C: CheckpointStrategy, const P: usize>(
    x: FloatTensor<Autodiff<B, C>>,
    last: FloatTensor<Autodiff<B, C>>,
    mu: Vec<FloatTensor<Autodiff<B, C>>>,
) -> Vec<FloatTensor<Autodiff<B, C>>> {
    let parents: [_; P] = {
        let mut inputs = [&x, &last].into_iter().chain(&mu);
        std::array::from_fn(|_| inputs.next().expect("two inputs and every μ").node.clone())
    };
    let (x, last) = (x.primitive, last.primitive);
    let mu: Vec<_> = mu.into_iter().map(|mu| mu.primitive).collect();
    let outputs = B::token_shift_forward(x.clone(), last.clone(), mu.clone());
    match Inputs.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(node) => {
            let arrived: Arrived<B> = Arc::new(Mutex::new(vec![None; outputs.len()]));
            // Its value is never looked at.
            let behind: FloatTensor<Autodiff<B, C>> =
                node.finish(Saved { x: x.clone(), last, mu, arrived: arrived.clone() }, x);
            let put = |(i, output)| match Output.prepare::<C>([behind.node.clone()]).compute_bound().stateful() {
                OpsKind::Tracked(node) => node.finish((i, arrived.clone()), output),
                OpsKind::UnTracked(node) => node.finish(output),
            };
            outputs.into_iter().enumerate().map(put).collect()
        }
        OpsKind::UnTracked(_) => outputs.into_iter().map(<Autodiff<B, C> as AutodiffBackend>::from_inner).collect(),
    }
}

/// The gradients that arrived at the outputs so far.
type Arrived<B> = Arc<Mutex<Vec<Option<FloatTensor<B>>>>>;

/// One output.
#[derive(Debug)]
struct Output;

impl<B: RwkvBackend> Backward<B, 1> for Output {
    type State = (usize, Arrived<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([parent], (i, arrived)) = (ops.parents, ops.state);
        let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
        // The graph wants something to arrive at the node behind, once.
        if let Some(parent) = parent
            && arrived.iter().all(Option::is_none)
        {
            grads.register::<B>(parent.id, gradient.clone());
        }
        arrived[i] = Some(gradient);
    }
}

/// What all outputs come from.
#[derive(Debug)]
struct Inputs;

#[derive(Debug, Clone)]
struct Saved<B: RwkvBackend> {
    x: FloatTensor<B>,
    last: FloatTensor<B>,
    mu: Vec<FloatTensor<B>>,
    arrived: Arrived<B>,
}

impl<B: RwkvBackend, const P: usize> Backward<B, P> for Inputs {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, P>, grads: &mut Gradients, _: &mut Checkpointer) {
        drop(grads.consume::<B>(&ops.node));
        let Saved { x, last, mu, arrived } = ops.state;
        // Taken, so that another pass through the same graph starts from nothing.
        let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = arrived.iter_mut().map(Option::take);
        let (used, passed): (Vec<_>, Vec<_>) = arrived
            .zip(mu)
            .enumerate()
            .filter_map(|(i, (gradient, mu))| gradient.map(|gradient| (i, (mu, gradient))))
            .unzip();
        let TokenShiftGradients { x, last, mu } = B::token_shift_backward(x, last, passed);
        let mut parents = ops.parents.into_iter().map(|parent| parent.map(|node| node.id));
        let [of_x, of_last] = [parents.next().flatten(), parents.next().flatten()];
        register::<B, 2>([of_x, of_last], grads, [x, last]);
        let of_mu: Vec<_> = parents.collect();
        for (i, gradient) in used.into_iter().zip(mu) {
            register::<B, 1>([of_mu[i]], grads, [gradient]);
        }
    }
}
