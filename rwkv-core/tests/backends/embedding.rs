//! Rows of the embedding table and the table's gradient, on every backend.

use crate::fused_ops::random;
use crate::support::{assert_close, say, tensor, values};
use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::embedding::embedding;

/// Rows of the table, and its gradient from one of the rows.
fn run<B: RwkvBackend>(
    table: &[f64],
    tokens: &[i64],
    batch: usize,
    grad: &[f64],
    at: &(&B::Device, DType),
) -> (Vec<f64>, Vec<f64>) {
    let (width, time) = (grad.len() / tokens.len(), tokens.len() / batch);
    let table = tensor::<Autodiff<B>, 2>(table, [table.len() / width, width], at).require_grad();
    let tokens = Tensor::<Autodiff<B>, 2, Int>::from_data(TensorData::new(tokens.to_vec(), [batch, time]), at.0);
    let rows = embedding(table.clone(), tokens);
    assert_eq!(rows.dims(), [batch, time, width]);
    let grads = (rows.clone() * tensor(grad, [batch, time, width], at)).sum().backward();
    (values(rows), values(table.grad(&grads).expect("tracked")))
}

/// Tokens once, often, all the same, and never; widths that are and are not vectors, and of several blocks of columns.
fn the_table_gets_the_sum_of_its_rows_gradients<B: RwkvBackend>(device: &B::Device) {
    let mut rng = StdRng::seed_from_u64(21);
    for (batch, time, vocab, width) in
        [(1, 1, 3, 5), (2, 4, 6, 16), (3, 100, 7, 20), (1, 77, 1, 8), (2, 65, 300, 300), (1, 40, 50, 1200)]
    {
        let count = batch * time;
        let table = random(&mut rng, vocab * width, 2.0);
        let grad = random(&mut rng, count * width, 2.0);
        let tokens: Vec<i64> = (0..count).map(|_| rng.random_range(0..vocab as i64)).collect();
        let mut want = vec![0.0; vocab * width];
        let mut want_rows = Vec::new();
        for (&token, grad) in tokens.iter().zip(grad.chunks(width)) {
            let row = token as usize * width..(token as usize + 1) * width;
            want_rows.extend_from_slice(&table[row.clone()]);
            want[row].iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
        }
        let (rows, gradient) = run::<B>(&table, &tokens, batch, &grad, &(device, DType::F32));
        assert_eq!(rows, want_rows);
        assert_close(&format!("{count} of {vocab} tokens, {width} wide"), &gradient, &want, 1e-6);
    }
}

/// A sum that the table's own numbers would not reach: in `bf16` it would stop at 256, in `f16` at 2048.
fn frequent_tokens_are_summed_in_f32<B: RwkvBackend>(device: &B::Device) {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !B::supports_dtype(device, dtype) {
            say(&format!("SKIPPED {dtype:?} on {}: it has no such type", B::name(device)));
            continue;
        }
        let (_, gradient) = run::<B>(&[0.5; 2 * 8], &[1; 4000], 1, &[1.0; 4000 * 8], &(device, dtype));
        assert_eq!(gradient, [vec![0.0; 8], vec![4000.0; 8]].concat(), "{dtype:?}");
    }
}

on_every_backend!(the_table_gets_the_sum_of_its_rows_gradients, frequent_tokens_are_summed_in_f32);
