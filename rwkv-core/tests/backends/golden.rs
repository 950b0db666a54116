//! The whole model against other implementations: the PyPI package `rwkv` and PyTorch (`fixtures/make_fixtures.py`).

use crate::support::fixture::Fixture;
use crate::support::{assert_close, tensor, values};
use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::wkv::wkv;

/// Logits of the package `rwkv` after every token, from a checkpoint with live weights in every layer.
fn logits_match_the_rwkv_package<B: RwkvBackend>(device: &B::Device) {
    let expected = Fixture::open("model_expected");
    let tokens: Vec<i64> = expected.values("tokens").into_iter().map(|x| x as i64).collect();
    let model = checkpoint::load::<B>(&Fixture::path("model"), device).expect("the fixture loads");
    let config = model.config();
    assert_eq!((config.n_layer, config.vocab_size, config.n_embd), (3, 11, 32));
    assert_eq!((config.dim_att, config.dim_ffn), (48, 96), "the fixture's widths all differ");

    let count = tokens.len();
    let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(tokens, [1, count]), device);
    let (logits, state) = model.forward(ids, model.zero_state(1));
    let logits = values(logits);
    for (name, tolerance) in [("logits_rwkv", 1e-4), ("logits_f64", 1e-4)] {
        let want = expected.values(name);
        // Relative to the largest logit, which is above 1: scaling the tolerance makes it absolute.
        let scale = want.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        assert_close(name, &logits, &want, tolerance / scale);
    }

    let (a, b, p) = (expected.values("state_a"), expected.values("state_b"), expected.values("state_p"));
    for (l, layer) in state.layers.into_iter().enumerate() {
        assert_close(
            &format!("att_x {l}"),
            &values(layer.att_x),
            &expected.values("state_att_x")[l * 32..][..32],
            1e-5,
        );
        assert_close(
            &format!("ffn_x {l}"),
            &values(layer.ffn_x),
            &expected.values("state_ffn_x")[l * 32..][..32],
            1e-5,
        );
        // (a, b, p) is not unique: a·e^p and b·e^p are.
        let wkv = values(layer.memory);
        let row = |i: usize| &wkv[i * 48..][..48];
        let unscaled = |part: &[f64], exponent: &[f64]| -> Vec<f64> {
            part.iter().zip(exponent).map(|(x, p)| x * p.exp()).collect()
        };
        let here = l * 48..(l + 1) * 48;
        assert_close("A", &unscaled(row(0), row(2)), &unscaled(&a[here.clone()], &p[here.clone()]), 1e-5);
        assert_close("B", &unscaled(row(1), row(2)), &unscaled(&b[here.clone()], &p[here]), 1e-5);
    }
}

/// WKV's outputs, final state and gradients against PyTorch's autograd through the paper's sums.
fn wkv_matches_pytorch<B: RwkvBackend>(device: &B::Device) {
    let fixture = Fixture::open("wkv_expected");
    let (batch, time, channels) = (2, 9, 5);
    let at = &(device, DType::F32);
    let leaf1 = |name: &str| tensor::<Autodiff<B>, 1>(&fixture.values(name), [channels], at).require_grad();
    let leaf3 = |name: &str, rows: usize| {
        tensor::<Autodiff<B>, 3>(&fixture.values(name), [batch, rows, channels], at).require_grad()
    };
    let (decay, first) = (leaf1("time_decay"), leaf1("time_first"));
    let (k, v, state) = (leaf3("k", time), leaf3("v", time), leaf3("state", 3));
    let (y, last) = wkv(decay.clone(), first.clone(), k.clone(), v.clone(), state.clone());
    let unscaled = last.clone().narrow(1, 0, 2) * last.narrow(1, 2, 1).exp();
    let weight = |name: &str, rows: usize| tensor(&fixture.values(name), [batch, rows, channels], at);
    let loss = (y.clone() * weight("weight_y", time)).sum() + (unscaled.clone() * weight("weight_s", 2)).sum();
    let grads = loss.backward();
    assert_close("y", &values(y), &fixture.values("y"), 1e-5);
    assert_close("final state", &values(unscaled), &fixture.values("final"), 1e-5);
    let gradients = [
        ("time_decay", values(decay.grad(&grads).expect("tracked"))),
        ("time_first", values(first.grad(&grads).expect("tracked"))),
        ("k", values(k.grad(&grads).expect("tracked"))),
        ("v", values(v.grad(&grads).expect("tracked"))),
        ("state", values(state.grad(&grads).expect("tracked"))),
    ];
    for (name, got) in gradients {
        assert_close(&format!("gradient of {name}"), &got, &fixture.values(&format!("grad.{name}")), 1e-5);
    }
}

on_every_backend!(logits_match_the_rwkv_package, wkv_matches_pytorch);
