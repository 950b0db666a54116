//! Models whose weights take fewer bits, on every backend: near the `f32` model, and one model in both modes.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, say, values};
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::checkpoint::{self, Checkpoint, ExportOptions, FileDtype, Format};
use rwkv_core::error::Error;
use rwkv_core::model::{Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;

const TOKENS: [i64; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn logits<B: RwkvBackend>(model: &Rwkv<B>, device: &B::Device) -> Vec<f64> {
    let tokens = Tensor::<B, 2, Int>::from_data(TensorData::new(TOKENS.to_vec(), [1, TOKENS.len()]), device);
    values(model.forward(tokens, model.zero_state(1)).0)
}

fn recurrent<B: RwkvBackend>(model: &Rwkv<B>, device: &B::Device) -> Vec<f64> {
    let mut state = model.zero_state(1);
    let mut rows = Vec::new();
    for token in TOKENS {
        let (row, next) = model.step(Tensor::from_data([token], device), state);
        rows.extend(values(row));
        state = next;
    }
    rows
}

/// The relative size of one rounding of a weight or an activation, with room for a few layers of them.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-6,
        Precision::F16 => 5e-3,
        Precision::Bf16 | Precision::Bf16Products => 4e-2,
        Precision::Int8 => 4e-2,
    }
}

fn every_precision_is_near_f32<B: RwkvBackend>(device: &B::Device) {
    let path = Fixture::path("model");
    let exact = logits(&checkpoint::load::<B>(&path, device).expect("the fixture loads"), device);
    for precision in Precision::ALL {
        let name = precision.name();
        let model = match checkpoint::load_in::<B>(&path, precision, device) {
            Ok(model) => model,
            Err(Error::Config { key: "dtype", .. }) if !B::IN_MAIN_MEMORY => {
                say(&format!("SKIPPED {name} on {}: the device has no such numbers", B::name(device)));
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        assert_eq!(model.num_params_lazy(), model.config().num_params(), "{name}");
        assert_eq!(model.only_runs(), B::IN_MAIN_MEMORY || precision == Precision::F16);
        let got = logits(&model, device);
        assert_close(&format!("{name} against f32"), &got, &exact, tolerance(precision));
        // Packed weights compute in f32 but for one choice, so only the order of the sums differs between the modes.
        let computes_in_f32 = match precision {
            Precision::F32 => true,
            Precision::Bf16Products => false,
            Precision::F16 | Precision::Bf16 | Precision::Int8 => B::IN_MAIN_MEMORY,
        };
        let agreement = if computes_in_f32 { 1e-5 } else { tolerance(precision) };
        assert_close(&format!("{name}: modes"), &recurrent(&model, device), &got, agreement);
    }
}

/// Packing rounds the weights and nothing else: a model of the rounded weights in `f32` says the same.
fn packed_models_are_f32_models_of_rounded_weights<B: RwkvBackend>(device: &B::Device) {
    if !B::IN_MAIN_MEMORY {
        return; // its models of fewer bits are tensors; see the test above
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (precision, dtype) in [(Precision::F16, FileDtype::F16), (Precision::Bf16, FileDtype::Bf16)] {
        let rounded = folder.path().join(precision.name());
        let source = Checkpoint::open(&Fixture::path("model")).expect("opens");
        let options = ExportOptions { dtype: Some(dtype), ..ExportOptions::default() };
        source.export(&rounded, Format::Official, &options).expect("written");
        // The file rounds the vectors too, so both models are read from it.
        let exact = checkpoint::load::<B>(&rounded, device).expect("loads");
        let packed = checkpoint::load_in::<B>(&rounded, precision, device).expect("loads");
        let name = format!("packed {}", precision.name());
        assert_close(&name, &logits(&packed, device), &logits(&exact, device), 1e-5);
        assert_eq!(packed.fingerprint(), exact.fingerprint(), "{name}: a state of one is a state of the other");
    }
}

/// A device with small buffers gets its matrices in pieces, and computes the same.
fn matrices_in_pieces_are_the_matrices<B: RwkvBackend>(device: &B::Device) {
    let source = Checkpoint::open(&Fixture::path("model")).expect("opens");
    let whole = source.model::<B>(device).expect("loads");
    let want = logits(&whole, device);
    // One row each, a few rows, and only the largest matrices cut.
    for max_bytes in [1, 600, 9000] {
        let model = source.tensor_model_within::<B>(Precision::F32, max_bytes, device).expect("loads");
        assert!(model.only_runs());
        assert_eq!(model.config(), whole.config());
        assert_eq!(model.num_params_lazy(), whole.num_params_lazy());
        let name = format!("pieces of {max_bytes} bytes");
        assert_close(&name, &logits(&model, device), &want, 1e-5);
        assert_close(&name, &recurrent(&model, device), &want, 1e-5);
        assert_eq!(model.fingerprint(), whole.fingerprint(), "{name}: a state of one is a state of the other");
    }
    assert!(B::max_tensor_bytes(device) >= 1 << 27, "WebGPU guarantees 128 MiB");
    let uncut = source.tensor_model_within::<B>(Precision::F32, 1 << 20, device).expect("loads");
    assert!(!uncut.only_runs());
}

on_every_backend!(
    matrices_in_pieces_are_the_matrices,
    every_precision_is_near_f32,
    packed_models_are_f32_models_of_rounded_weights
);
