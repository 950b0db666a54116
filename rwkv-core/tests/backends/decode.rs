//! The recurrent mode as one operation against the recurrent mode as many.

use crate::every_mixer::stirred;
use crate::support::{assert_close, say, values};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::checkpoint::{self, Checkpoint};
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::Error;
use rwkv_core::model::{NoHook, Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::decode::MAX_BATCH;
use rwkv_core::state::{LayerState, State};

/// Several portions of every matrix: in sizes that are no multiples of a vector's, and some of a word's; and in sizes that are,
/// with a head whose portions are, on two threads, as large as they come. Then so many layers that `f16` halves the stream, of so
/// few columns that most units of a GPU's cube share them; and more rows than such a cube takes at a time.
fn configs() -> [RwkvConfig; 4] {
    [
        RwkvConfig { dim_att: 202, dim_ffn: 331, ..RwkvConfig::new(150, 3, 77) },
        RwkvConfig { dim_att: 260, dim_ffn: 396, ..RwkvConfig::new(2103, 2, 132) },
        RwkvConfig { dim_att: 24, dim_ffn: 28, ..RwkvConfig::new(150, 7, 20) },
        RwkvConfig { dim_att: 528, dim_ffn: 1100, ..RwkvConfig::new(150, 1, 520) },
    ]
}

fn numbers<B: RwkvBackend>(state: &State<B>) -> Vec<f64> {
    let of_layer = |layer: &LayerState<B>| {
        [values(layer.att_x.clone()), values(layer.ffn_x.clone()), averages_and_weights(layer)].concat()
    };
    state.layers.iter().flat_map(of_layer).collect()
}

/// `a/b` and `ln b + p`: the three numbers of the WKV state are not unique, but these are.
fn averages_and_weights<B: RwkvBackend>(layer: &LayerState<B>) -> Vec<f64> {
    let [_, _, channels] = layer.memory.dims();
    let memory = values(layer.memory.clone());
    let rows = memory.chunks(3 * channels).flat_map(|rows| {
        (0..channels).flat_map(|i| {
            let [a, b, p] = [rows[i], rows[channels + i], rows[2 * channels + i]];
            [a / b, b.ln() + p]
        })
    });
    rows.collect()
}

fn a_step_at_once_is_a_step<B: RwkvBackend>(device: &B::Device) {
    for config in configs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        checkpoint::save(&stirred::<B>(&config, device), &path).expect("written");
        for precision in Precision::ALL {
            let model: Rwkv<B> = match checkpoint::load_in(&path, precision, device) {
                Ok(model) => model,
                Err(Error::Config { key: "dtype", .. }) if !B::IN_MAIN_MEMORY => {
                    say(&format!("SKIPPED {} on {}: no such numbers", precision.name(), B::name(device)));
                    continue;
                }
                Err(error) => panic!("{}: {error}", precision.name()),
            };
            // Between the operations apart, activations are rounded to the weights' dtype where both are tensors.
            let rounds = !B::IN_MAIN_MEMORY && precision != Precision::F32;
            let tolerance = if rounds { 5e-3 } else { 1e-5 };
            the_steps_of_a_model_are_equal(precision.name(), &model, tolerance, device);
        }
    }
}

/// On a device with small buffers, where embedding and head are more than one tensor.
fn a_step_at_once_with_a_head_in_pieces<B: RwkvBackend>(device: &B::Device) {
    if B::IN_MAIN_MEMORY {
        return; // its matrices are never cut
    }
    let [_, config, ..] = configs();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&stirred::<B>(&config, device), &path).expect("written");
    // The head has 1.1 MB, the widest of the other matrices 209 kB.
    let source = Checkpoint::open(&path).expect("opens");
    let model = source.tensor_model_within::<B>(Precision::F32, 300_000, device).expect("loads");
    assert!(model.only_runs(), "in pieces");
    the_steps_of_a_model_are_equal("in pieces", &model, 1e-5, device);
}

fn the_steps_of_a_model_are_equal<B: RwkvBackend>(of: &str, model: &Rwkv<B>, tolerance: f64, device: &B::Device) {
    for batch in 1..=MAX_BATCH + 1 {
        let (mut once, mut apart) = (model.zero_state(batch), model.zero_state(batch));
        let mut other_bits = 0;
        for t in 0..6 {
            let tokens: Vec<i64> = (0..batch).map(|row| ((7 * t + 31 * row + t * t) % 150) as i64).collect();
            let token = || Tensor::from_data(TensorData::new(tokens.clone(), [batch]), device);
            let (got, next) = model.step(token(), once);
            let (want, then) = model.step_hooked(token(), apart, &mut NoHook);
            let name = format!("{of} × {batch}, token {t}");
            let (got, want) = (values(got), values(want));
            assert_close(&name, &got, &want, tolerance);
            assert_close(&format!("{name}, state"), &numbers(&next), &numbers(&then), 2.0 * tolerance);
            other_bits += got.iter().zip(&want).filter(|(got, want)| got != want).count();
            (once, apart) = (next, then);
        }
        if !B::IN_MAIN_MEMORY {
            // Sums in another order: equal to the last bit would be the same operations twice.
            let at_once = batch <= MAX_BATCH && B::has_decode_step(device);
            assert_eq!(other_bits > 0, at_once, "{of} × {batch}: at once for up to {MAX_BATCH} sequences");
        }
    }
}

on_every_backend!(a_step_at_once_is_a_step, a_step_at_once_with_a_head_in_pieces);
