//! Time-parallel and recurrent mode: the same outputs, states and gradients for any split of a sequence.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, meaning, values};
use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rwkv_core::checkpoint;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;

/// The model with live weights in every layer.
fn model<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("model"), device).expect("the fixture loads")
}

fn ids<B: RwkvBackend>(tokens: &[i32], batch: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(tokens.to_vec(), [batch, tokens.len() / batch]), device)
}

/// Random tokens of two sequences, cut at random places: pieces of one token take `step`, longer ones `forward`.
fn any_split_gives_the_same<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let tokens = prop::collection::vec(0i32..11, 2 * 24);
    let cuts = prop::collection::btree_set(1usize..24, 0..23);
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 12, failure_persistence: None, ..Config::default() },
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&(tokens, cuts), |(tokens, cuts)| {
            let whole = ids::<B>(&tokens, 2, device);
            // Not from the empty state: a prefix first.
            let (_, start) = model.forward(ids(&[7, 3, 10, 0, 5, 5], 2, device), model.zero_state(2));
            let (expected, expected_state) = model.forward(whole.clone(), start.clone());
            let (from_empty, _) = model.forward(whole.clone(), model.zero_state(2));
            prop_assert!(values((expected.clone() - from_empty).abs().max())[0] > 1e-2, "the initial state matters");

            let mut ends: Vec<usize> = cuts.into_iter().collect();
            ends.push(24);
            let (mut state, mut begin, mut pieces) = (start, 0, Vec::new());
            for end in ends {
                let piece = whole.clone().narrow(1, begin, end - begin);
                let (logits, next) = if end - begin == 1 {
                    let (logits, next) = model.step(piece.reshape([2]), state);
                    (logits.unsqueeze_dim(1), next)
                } else {
                    model.forward(piece, state)
                };
                pieces.push(logits);
                (state, begin) = (next, end);
            }
            assert_close("logits", &values(Tensor::cat(pieces, 1)), &values(expected), 1e-5);
            assert_close("state", &meaning(&state), &meaning(&expected_state), 1e-5);
            Ok(())
        })
        .expect("all splits agree");
}

/// The gradient of every parameter and of the initial state, in one piece and in pieces with the state handed on.
fn splits_give_the_same_gradients<B: RwkvBackend>(device: &B::Device) {
    let tokens: Vec<i32> = (0..2 * 13).map(|i| (i * 7 + i / 5) % 11).collect();
    let gradients = |cuts: &[usize]| -> Vec<(String, Vec<f64>)> {
        let model = model::<Autodiff<B>>(device);
        let (_, start) = model.forward(ids(&[7, 3, 10, 0, 5, 5], 2, device), model.zero_state(2));
        let mut state = start.detach();
        let leaf = state.layers[1].memory.clone().require_grad();
        state.layers[1].memory = leaf.clone();
        let whole = ids::<Autodiff<B>>(&tokens, 2, device);
        let (mut begin, mut loss) = (0, Tensor::<Autodiff<B>, 1>::zeros([1], (device, DType::F32)));
        for &end in cuts {
            let (logits, next) = model.forward(whole.clone().narrow(1, begin, end - begin), state);
            let weights: Vec<f32> =
                (begin..end).flat_map(|t| (0..11).map(move |v| ((t * 3 + v * 5) % 7) as f32 - 3.0)).collect();
            let weights = TensorData::new(weights, [1, end - begin, 11]);
            loss = loss + (logits * Tensor::from_data(weights, (device, DType::F32))).sum();
            (state, begin) = (next, end);
        }
        // The loss weighs the final state as well.
        for layer in &state.layers {
            let wkv = layer.memory.clone();
            // Not `a / b`: the gradient of Burn's quotient multiplies with NdArray's estimate of a reciprocal.
            let (a, b) = (wkv.clone().narrow(1, 0, 1), wkv.narrow(1, 1, 1));
            loss = loss + layer.att_x.clone().sum() + (a * (b.ones_like() / b)).sum();
        }
        let grads = loss.backward();
        let mut found = vec![("initial state".to_owned(), values(leaf.grad(&grads).expect("tracked")))];
        for (l, block) in model.blocks.iter().enumerate() {
            let att = block.att.rwkv4().expect("RWKV-4");
            let ffn = block.ffn.rwkv4().expect("RWKV-4");
            found.push((format!("{l} time_decay"), values(att.time_decay.val().grad(&grads).expect("tracked"))));
            found.push((format!("{l} time_first"), values(att.time_first.val().grad(&grads).expect("tracked"))));
            found.push((format!("{l} time_mix_k"), values(att.time_mix_k.val().grad(&grads).expect("tracked"))));
            found.push((
                format!("{l} att.key"),
                values(att.key.weight().expect("a parameter").val().grad(&grads).expect("tracked")),
            ));
            found.push((
                format!("{l} ffn.value"),
                values(ffn.value.weight().expect("a parameter").val().grad(&grads).expect("tracked")),
            ));
        }
        found
    };
    let whole = gradients(&[13]);
    for cuts in [vec![1, 2, 13], vec![6, 13], (1..=13).collect::<Vec<_>>()] {
        for ((name, want), (_, got)) in whole.iter().zip(gradients(&cuts)) {
            assert!(want.iter().any(|x| x.abs() > 1e-4), "{name} has a gradient");
            // (a, b, p) of an initial state is a leaf here: its three gradients are unique.
            assert_close(&format!("{cuts:?}: {name}"), &got, want, 1e-4);
        }
    }
}

/// Sequences of one batch do not see each other, and batches come apart and together again.
fn sequences_do_not_mix<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let (first, second) = ([1, 2, 3, 4, 5], [9, 8, 7, 6, 5]);
    let both: Vec<i32> = first.iter().chain(&second).copied().collect();
    let (together, state) = model.forward(ids(&both, 2, device), model.zero_state(2));
    let (alone, state_alone) = model.forward(ids(&second, 1, device), model.zero_state(1));
    assert_close("second sequence", &values(together.narrow(0, 1, 1)), &values(alone), 1e-5);
    assert_close("its state", &meaning(&state.select(&[1])), &meaning(&state_alone), 1e-5);
    let swapped = State::cat(vec![state.select(&[1]), state.select(&[0])]);
    assert_close("swapped", &meaning(&swapped), &meaning(&state.select(&[1, 0])), 0.0);

    // A caller's state is a value: going on from it leaves it as it was.
    let before = meaning(&state);
    let token = || Tensor::<B, 1, Int>::from_data(TensorData::new(vec![3, 4], [2]), device);
    let (one, _) = model.step(token(), state.clone());
    let (two, _) = model.step(token(), state.clone());
    // A GPU backend may pick another matrix kernel the second time; a CPU backend has no such choice.
    let tolerance = if ["flex", "ndarray"].contains(&B::name(device).as_str()) { 0.0 } else { 1e-5 };
    assert_close("twice from one state", &values(one), &values(two), tolerance);
    assert_close("the state itself", &meaning(&state), &before, 0.0);
}

on_every_backend!(any_split_gives_the_same, splits_give_the_same_gradients, sequences_do_not_mix);
