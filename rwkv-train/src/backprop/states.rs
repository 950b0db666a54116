//! States at the seams between graphs: as leaves, as constants, and their gradients.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use rwkv_core::state::{LayerState, State};

/// The values of a state, without its graph.
pub(super) fn inner<B: AutodiffBackend>(state: &State<B>) -> State<B::InnerBackend> {
    State { layers: state.layers.iter().map(inner_layer).collect() }
}

pub(super) fn inner_layer<B: AutodiffBackend>(layer: &LayerState<B>) -> LayerState<B::InnerBackend> {
    LayerState {
        att_x: layer.att_x.clone().inner(),
        ffn_x: layer.ffn_x.clone().inner(),
        memory: layer.memory.clone().inner(),
    }
}

/// A state as the beginning of a graph, which asks for its gradient if `wants` says so.
pub(super) fn leaf<B: AutodiffBackend>(state: &State<B::InnerBackend>, wants: bool) -> State<B> {
    State { layers: state.layers.iter().map(|layer| leaf_layer(layer, wants)).collect() }
}

pub(super) fn leaf_layer<B: AutodiffBackend>(layer: &LayerState<B::InnerBackend>, wants: bool) -> LayerState<B> {
    LayerState {
        att_x: Tensor::from_inner(layer.att_x.clone()).set_require_grad(wants),
        ffn_x: Tensor::from_inner(layer.ffn_x.clone()).set_require_grad(wants),
        memory: Tensor::from_inner(layer.memory.clone()).set_require_grad(wants),
    }
}

/// The inner product of a state and its adjoint, `[1]`: its gradient is that of a loss that has this adjoint there.
pub(super) fn dot<B: AutodiffBackend>(state: &State<B>, adjoint: &State<B::InnerBackend>) -> Tensor<B, 1> {
    let products = state.layers.iter().zip(&adjoint.layers).map(|(layer, adjoint)| dot_layer(layer, adjoint));
    products.reduce(|sum, product| sum + product).expect("a model has at least one layer")
}

pub(super) fn dot_layer<B: AutodiffBackend>(
    layer: &LayerState<B>,
    adjoint: &LayerState<B::InnerBackend>,
) -> Tensor<B, 1> {
    product(layer.att_x.clone(), &adjoint.att_x)
        + product(layer.ffn_x.clone(), &adjoint.ffn_x)
        + product(layer.memory.clone(), &adjoint.memory)
}

/// `Σ x·adjoint`, in the dtype of `x`: only its gradient is of interest.
pub(super) fn product<B: AutodiffBackend, const D: usize>(
    x: Tensor<B, D>,
    adjoint: &Tensor<B::InnerBackend, D>,
) -> Tensor<B, 1> {
    let dtype = x.dtype();
    (x * Tensor::<B, D>::from_inner(adjoint.clone()).cast(dtype)).sum().cast(burn::tensor::DType::F32)
}

/// The gradients of a state that is a leaf; zeros where nothing depends on it.
pub(super) fn gradients_of<B: AutodiffBackend>(state: &State<B>, grads: &B::Gradients) -> State<B::InnerBackend> {
    State { layers: state.layers.iter().map(|layer| gradients_of_layer(layer, grads)).collect() }
}

pub(super) fn gradients_of_layer<B: AutodiffBackend>(
    layer: &LayerState<B>,
    grads: &B::Gradients,
) -> LayerState<B::InnerBackend> {
    fn of<B: AutodiffBackend, const D: usize>(x: &Tensor<B, D>, grads: &B::Gradients) -> Tensor<B::InnerBackend, D> {
        x.grad(grads).unwrap_or_else(|| x.clone().inner().zeros_like())
    }
    LayerState { att_x: of(&layer.att_x, grads), ffn_x: of(&layer.ffn_x, grads), memory: of(&layer.memory, grads) }
}

/// The sum of two states' numbers, where either may be missing.
pub(super) fn sum<B: Backend>(a: Option<State<B>>, b: Option<State<B>>) -> Option<State<B>> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.or(b),
    };
    let add = |(a, b): (LayerState<B>, LayerState<B>)| LayerState {
        att_x: a.att_x + b.att_x,
        ffn_x: a.ffn_x + b.ffn_x,
        memory: a.memory + b.memory,
    };
    Some(State { layers: a.layers.into_iter().zip(b.layers).map(add).collect() })
}

/// The sum over all sequences, as the numbers of one.
pub(super) fn sum_rows<B: Backend>(state: &State<B>) -> State<B> {
    let rows = |layer: &LayerState<B>| LayerState {
        att_x: layer.att_x.clone().sum_dim(0),
        ffn_x: layer.ffn_x.clone().sum_dim(0),
        memory: layer.memory.clone().sum_dim(0),
    };
    State { layers: state.layers.iter().map(rows).collect() }
}
