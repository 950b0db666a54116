//! The recurrent mode as one operation against the recurrent mode as many.

use crate::every_mixer::stirred;
use crate::support::{assert_close, values};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{NoHook, Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::{LayerState, State};

/// Several portions of every matrix: in sizes that are no multiples of a vector's, and some of a word's; and in sizes that are,
/// with a head whose portions are, on two threads, as large as they come.
fn configs() -> [RwkvConfig; 2] {
    [
        RwkvConfig { dim_att: 202, dim_ffn: 331, ..RwkvConfig::new(150, 3, 77) },
        RwkvConfig { dim_att: 260, dim_ffn: 396, ..RwkvConfig::new(2103, 2, 132) },
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
    if !B::IN_MAIN_MEMORY {
        return; // it has no such operation: both would be the same
    }
    for config in configs() {
        the_steps_of_a_model_are_equal::<B>(&config, device);
    }
}

fn the_steps_of_a_model_are_equal<B: RwkvBackend>(config: &RwkvConfig, device: &B::Device) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&stirred::<B>(config, device), &path).expect("written");
    for precision in Precision::ALL {
        let model: Rwkv<B> = checkpoint::load_in(&path, precision, device).expect("a CPU holds every precision");
        for batch in [1, 2, 4, 5] {
            let (mut once, mut apart) = (model.zero_state(batch), model.zero_state(batch));
            for t in 0..6 {
                let tokens: Vec<i64> = (0..batch).map(|row| ((7 * t + 31 * row + t * t) % 150) as i64).collect();
                let token = || Tensor::from_data(TensorData::new(tokens.clone(), [batch]), device);
                let (got, next) = model.step(token(), once);
                let (want, then) = model.step_hooked(token(), apart, &mut NoHook);
                let name = format!("{} × {batch}, token {t}", precision.name());
                assert_close(&name, &values(got), &values(want), 1e-5);
                assert_close(&format!("{name}, state"), &numbers(&next), &numbers(&then), 2e-5);
                (once, apart) = (next, then);
            }
        }
    }
}

on_every_backend!(a_step_at_once_is_a_step);
