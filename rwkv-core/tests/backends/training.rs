//! What training adds, on every backend: texts side by side in one row, the loss in chunks, sums of squares.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, meaning, tensor, values};
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::tensor::{DType, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::checkpoint;
use rwkv_core::loss::training_loss;
use rwkv_core::model::{NoHook, Restarts, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::head_loss::head_loss;
use rwkv_core::ops::sum_of_squares::sum_of_squares;

fn random(rng: &mut StdRng, n: usize) -> Vec<f64> {
    (0..n).map(|_| f64::from(rng.random_range(-1.0f32..1.0))).collect()
}

fn ids<B: RwkvBackend>(ids: &[i32], rows: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [rows, ids.len() / rows]), device)
}

/// Two rows of nine tokens: the first starts anew at 2 and 5, the second at 0, 5 and 8. Each text must be as if alone.
fn texts_in_one_row_do_not_see_each_other<B: RwkvBackend>(device: &B::Device) {
    let path = Fixture::path("model");
    let model: Rwkv<B> = checkpoint::load(&path, device).expect("loads");
    let tokens: Vec<i32> = (0..18).map(|i| (i * 7 + 3) % 11).collect();
    // A state that is not empty, to start anew from, and another one to come from.
    let fresh = model.read(ids::<B>(&[4, 1, 7], 1, device), model.zero_state(1));
    let before = model.read(ids::<B>(&[2, 9], 2, device), model.zero_state(2));
    let restarts = Restarts::new(&[(2, 0), (5, 0), (0, 1), (5, 1), (8, 1)], 2, fresh.clone());
    let (x, state) = model.hidden(ids::<B>(&tokens, 2, device), before.clone(), Some(&restarts), &mut NoHook);
    let mut alone = Vec::new();
    let mut last = Vec::new();
    for (row, starts) in [(0, &[0, 2, 5, 9][..]), (1, &[0, 5, 8, 9])] {
        for (i, bounds) in starts.windows(2).enumerate() {
            let text = &tokens[row * 9 + bounds[0]..row * 9 + bounds[1]];
            let start = if (row, i) == (0, 0) { before.select(&[0]) } else { fresh.clone() };
            let (x, state) = model.hidden(ids::<B>(text, 1, device), start, None, &mut NoHook);
            alone.extend(values(x));
            if bounds[1] == 9 {
                last.push(state);
            }
        }
    }
    assert_close("residual stream", &values(x), &alone, 1e-5);
    let last = rwkv_core::state::State::cat(last);
    assert_close("final states", &meaning(&state), &meaning(&last), 1e-5);
}

/// Chunks of one, of some that do not divide the rows, and of all: value and gradients of the plain operations, with heads
/// that are and are not as wide as a backend likes its products.
fn the_loss_in_chunks_is_the_loss<B: RwkvBackend>(device: &B::Device) {
    for vocab in [37, 40, 1100] {
        check_chunks::<B>(vocab, device);
    }
}

fn check_chunks<B: RwkvBackend>(vocab: usize, device: &B::Device) {
    let mut rng = StdRng::seed_from_u64(5);
    let (count, width) = (11, 16);
    let x = random(&mut rng, count * width);
    let head = random(&mut rng, width * vocab);
    let at = &(device, DType::F32);
    let targets: Vec<i32> = (0..count as i32).map(|i| (i * 5) % vocab as i32).collect();
    let run = |chunk: Option<usize>, weights: Option<&[f64]>| {
        let at = (at.0, at.1);
        let x: Tensor<Autodiff<B>, 2> = tensor(&x, [count, width], &at).require_grad();
        let head: Tensor<Autodiff<B>, 2> = tensor(&head, [width, vocab], &at).require_grad();
        let targets = Tensor::<Autodiff<B>, 1, Int>::from_data(TensorData::new(targets.clone(), [count]), device);
        let loss = match chunk {
            Some(chunk) => {
                let weights = weights.map(|weights| tensor(weights, [count], &at));
                head_loss(x.clone(), head.clone(), targets, weights, 1e-4, chunk).div_scalar(3.0)
            }
            None => {
                let logits = x.clone().matmul(head.clone()).unsqueeze_dim::<3>(0);
                training_loss(logits, targets.unsqueeze_dim(0)).mul_scalar(count as f64 / 3.0)
            }
        };
        let grads = loss.backward();
        let to_x = values(x.grad(&grads).expect("x has one"));
        (values(loss), to_x, values(head.grad(&grads).expect("the head has one")))
    };
    let want = run(None, None);
    for chunk in [1, 4, 11] {
        let got = run(Some(chunk), None);
        let chunk = format!("{vocab} tokens, chunk {chunk}");
        assert_close(&format!("{chunk}: loss"), &got.0, &want.0, 1e-5);
        assert_close(&format!("{chunk}: gradient of x"), &got.1, &want.1, 1e-5);
        assert_close(&format!("{chunk}: gradient of the head"), &got.2, &want.2, 1e-5);
    }
    // Weights of 0 and 1 are the loss of the rows that are left.
    let weights: Vec<f64> = (0..count).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
    let (got, one) = (run(Some(4), Some(&weights)), run(Some(11), Some(&weights)));
    assert_close("weights: loss", &got.0, &one.0, 1e-6);
    for (row, weight) in got.1.chunks(width).zip(&weights) {
        assert_eq!(row.iter().any(|x| *x != 0.0), *weight > 0.0);
    }
    assert_close("weights: gradient of the head", &got.2, &one.2, 1e-5);
}

/// A head that asks for no gradient gets none, and neither does the stream below a frozen model.
fn only_what_asks_gets_a_gradient<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    let x: Tensor<Autodiff<B>, 2> = tensor(&[0.5; 8], [2, 4], at).require_grad();
    let head: Tensor<Autodiff<B>, 2> = tensor(&[0.25; 12], [4, 3], at);
    let targets = Tensor::<Autodiff<B>, 1, Int>::from_data(TensorData::new(vec![0, 1], [2]), device);
    let grads = head_loss(x.clone(), head.clone(), targets, None, 0.0, 1).backward();
    assert!(x.grad(&grads).is_some() && head.grad(&grads).is_none());
    let path = Fixture::path("model");
    let model: Rwkv<Autodiff<B>> = checkpoint::load(&path, device).expect("loads");
    let inner = model.valid();
    let (x, _) = inner.hidden(ids::<B>(&[1, 2], 1, device), inner.zero_state(1), None, &mut NoHook);
    let loss = inner.head_loss(x, ids::<B>(&[2, 3], 1, device), None, 0.0, 0, &mut NoHook);
    assert!(values(loss)[0].is_finite());
}

/// Sums of squares over several tasks, of whole and of partial vectors; in main memory also in f64, which has no kernel
/// there.
fn squares_are_summed<B: RwkvBackend>(device: &B::Device) {
    let mut rng = StdRng::seed_from_u64(10);
    let dtypes: &[DType] = if B::IN_MAIN_MEMORY { &[DType::F32, DType::F64] } else { &[DType::F32] };
    for (&dtype, n) in dtypes.iter().flat_map(|dtype| [1, 17, 20_011, 40_000].map(|n| (dtype, n))) {
        let at = &(device, dtype);
        let mut numbers = random(&mut rng, n);
        let exact = numbers.iter().map(|x| x * x).sum::<f64>();
        let row = |numbers: &[f64]| tensor::<B, 1>(numbers, [n], at).into_primitive().tensor();
        let sum = sum_of_squares::<B>(vec![row(&numbers)]);
        assert_eq!((sum.dims(), sum.dtype()), ([1], dtype));
        assert_close(&format!("{n} squares"), &values(sum), &[exact], 1e-6);
        let table = tensor::<B, 2>(&numbers, [n, 1], at).into_primitive().tensor();
        let of_three = sum_of_squares::<B>(vec![row(&numbers), table, row(&vec![0.5; n])]);
        assert_eq!((of_three.dims(), of_three.dtype()), ([1], dtype));
        let exact = 2.0 * exact + 0.25 * n as f64;
        assert_close(&format!("three times {n} squares"), &values(of_three), &[exact], 1e-6);
        numbers[n / 2] = f64::NAN;
        let with_nan = values(sum_of_squares::<B>(vec![row(&vec![0.5; n]), row(&numbers)]));
        assert!(with_nan[0].is_nan(), "{n} numbers, one of them none");
    }
    for (&dtype, sizes) in dtypes.iter().flat_map(|dtype| [[1, 4, 17], [1024, 20_011, 40_000]].map(|s| (dtype, s))) {
        // More than a launch takes, of sizes that fill no cube and of sizes that need several.
        let mut all: Vec<Vec<f64>> = (0..50).map(|i| random(&mut rng, sizes[i % 3])).collect();
        let exact = all.iter().flatten().map(|x| x * x).sum::<f64>();
        let at = &(device, dtype);
        let sum = |all: &[Vec<f64>]| {
            let rows = all.iter().map(|row| tensor::<B, 1>(row, [row.len()], at).into_primitive().tensor());
            values(sum_of_squares::<B>(rows.collect()))
        };
        assert_close(&format!("the squares of fifty of {sizes:?}"), &sum(&all), &[exact], 1e-6);
        for which in [0, 15, 16, 31, 49] {
            let last = all[which].len() - 1;
            let number = std::mem::replace(&mut all[which][last], f64::NAN);
            assert!(sum(&all)[0].is_nan(), "a number of tensor {which} is none");
            all[which][last] = number;
        }
    }
}

on_every_backend!(
    texts_in_one_row_do_not_see_each_other,
    the_loss_in_chunks_is_the_loss,
    only_what_asks_gets_a_gradient,
    squares_are_summed,
);
