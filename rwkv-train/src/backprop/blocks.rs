//! A stretch of time, block by block: only the blocks' inputs are kept, and each block's graph lives while its own gradients
//! are computed.

use super::states::{dot_layer, gradients_of_layer, leaf_layer, product};
use super::stretch::{Passed, Stretch};
use super::{Backprop, OnDevice, add, leaf, precision, restarts};
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::state::State;

pub(super) fn pass<B: RwkvAutodiffBackend>(how: &Backprop, model: &Rwkv<B>, mut stretch: Stretch<B>) -> Passed<B> {
    let device = model.device();
    let wants = stretch.wants_states;
    let (mut inputs_of_blocks, x, state) = forward(how, model, &mut stretch);
    // A tiny attention reads the embeddings a second time.
    let emb = inputs_of_blocks[0].clone();
    let mut to_emb = None;

    // The head, on a stream that is the beginning of its graph.
    let OnDevice { inputs, targets, weights } = OnDevice::<B>::new(&stretch.batch, &device);
    let x = Tensor::<B, 3>::from_inner(x).require_grad();
    let mut top = model.clone();
    top.blocks = Vec::new();
    let view = precision::of(&top, how.precision);
    let loss = view.head_loss(x.clone(), targets, weights, how.l2_wrap, how.loss_chunk, &mut stretch.dropout);
    let loss = loss.mul_scalar(stretch.scale);
    let value = loss.clone().inner();
    let mut of_top = loss.backward();
    let mut to_x = x.grad(&of_top).expect("the loss depends on the stream");
    let mut grads = GradientsParams::from_module(&mut of_top, &top);

    let fresh: State<B> = leaf(&stretch.fresh, wants);
    let restarts = restarts(&stretch.batch, &fresh);
    let (mut to_state, mut to_fresh) = (Vec::new(), Vec::new());
    for (l, block) in model.blocks.iter().enumerate().rev() {
        let x = Tensor::<B, 3>::from_inner(inputs_of_blocks.pop().expect("one a block")).require_grad();
        let before = leaf_layer::<B>(&stretch.state.layers[l], wants);
        let view = precision::of(block, how.precision);
        let restarts = restarts.as_ref().map(|restarts| restarts.layer(l));
        let emb = Tensor::<B, 3>::from_inner(emb.clone()).set_require_grad(block.tiny.is_some());
        let (y, after) = view.forward(x.clone(), Some(&emb), before.clone(), l, restarts, &mut stretch.dropout);
        let objective = product(y, &to_x);
        let objective = match &stretch.adjoint {
            Some(adjoint) => objective + dot_layer(&after, &adjoint.layers[l]),
            None => objective,
        };
        drop((after, view));
        let mut of_block = objective.backward();
        to_x = x.grad(&of_block).expect("a block's output depends on its input");
        to_emb = to_emb.or_else(|| emb.grad(&of_block));
        if wants {
            to_state.push(gradients_of_layer(&before, &of_block));
            to_fresh.push(gradients_of_layer(&fresh.layers[l], &of_block));
        }
        let of_block = GradientsParams::from_module(&mut of_block, block);
        add(model, &mut grads, of_block);
    }
    let to_x = match to_emb {
        Some(to_emb) => to_x + to_emb,
        None => to_x,
    };
    if model.emb.weight().is_some_and(|table| table.val().is_require_grad()) {
        let view = precision::of(&top, how.precision);
        let mut of_table = product(view.embed(inputs, &mut stretch.dropout), &to_x).backward();
        let of_table = GradientsParams::from_module(&mut of_table, &model.emb);
        add(model, &mut grads, of_table);
    }
    let whole = |mut layers: Vec<_>| {
        layers.reverse();
        wants.then_some(State { layers })
    };
    Passed { loss: value, grads, state, to_state: whole(to_state), to_fresh: whole(to_fresh) }
}

/// The inputs of the blocks, the stream after the last, and the state.
#[expect(clippy::type_complexity, reason = "three things that go apart at once")]
fn forward<B: RwkvAutodiffBackend>(
    how: &Backprop,
    model: &Rwkv<B>,
    stretch: &mut Stretch<B>,
) -> (Vec<Tensor<B::InnerBackend, 3>>, Tensor<B::InnerBackend, 3>, State<B::InnerBackend>) {
    let model = precision::of(&model.valid(), how.precision);
    let tokens = stretch.batch.tensors::<B::InnerBackend>(&model.device()).0;
    let restarts = restarts(&stretch.batch, &stretch.fresh);
    let mut x = model.embed(tokens, &mut stretch.dropout);
    let (mut inputs, mut layers) = (Vec::new(), Vec::new());
    for (l, (block, layer)) in model.blocks.iter().zip(&stretch.state.layers).enumerate() {
        inputs.push(x.clone());
        let restarts = restarts.as_ref().map(|restarts| restarts.layer(l));
        let (y, after) = block.forward(x, Some(&inputs[0]), layer.clone(), l, restarts, &mut stretch.dropout);
        layers.push(after);
        x = y;
    }
    (inputs, x, State { layers })
}
