//! States as data: files, fingerprints and the official layouts.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, values};
use burn::tensor::{Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::checkpoint;
use rwkv_core::generate::prefill;
use rwkv_core::model::{Rwkv, SequenceMixer};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::{FORMAT_VERSION, State, StateLayout};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::Path;

fn model<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("model"), device).expect("the fixture loads")
}

/// All values, in one list.
fn flat<B: RwkvBackend>(state: &State<B>) -> Vec<f64> {
    let layer = |layer: &rwkv_core::state::LayerState<B>| {
        [values(layer.att_x.clone()), values(layer.ffn_x.clone()), values(layer.memory.clone())].concat()
    };
    state.layers.iter().flat_map(layer).collect()
}

/// Writes the file again with other metadata.
fn with_metadata(file: &Path, edit: impl Fn(&mut HashMap<String, String>)) {
    let bytes = std::fs::read(file).expect("the file");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let mut metadata = header.metadata().clone().expect("metadata");
    edit(&mut metadata);
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let again = safetensors::serialize(tensors.tensors(), Some(metadata)).expect("serialises");
    std::fs::write(file, again).expect("written");
}

/// A state that went through a file goes on as if it had not; one that does not belong here is refused in a sentence.
fn states_survive_files<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let fingerprint = model.fingerprint();
    let (_, one) = prefill(&model, model.zero_state(1), &[1, 2, 3, 4]).expect("valid tokens");
    let state = State::cat(vec![one.clone(), model.zero_state(1), one]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.safetensors");
    let save = || state.save(&file, &fingerprint).expect("written");
    save();
    let read = State::<B>::load(&file, &fingerprint, device).expect("read");
    assert_close("state", &flat(&read), &flat(&state), 0.0);

    let refusal = || {
        let said = State::<B>::load(&file, &fingerprint, device).expect_err("refused").to_string();
        assert!(said.contains("state.safetensors") && !said.contains('\n'), "{said}");
        said
    };
    type Edit = fn(&mut HashMap<String, String>);
    let edits: [(Edit, &str); 6] = [
        (|m| *m.get_mut("version").expect("there") = (FORMAT_VERSION + 1).to_string(), "reads up to 1"),
        (|m| *m.get_mut("version").expect("there") = "one".into(), "\"one\""),
        (|m| *m.get_mut("format").expect("there") = "pt".into(), "\"pt\""),
        (|m| *m.get_mut("model").expect("there") = "0".repeat(32), "another model"),
        (|m| drop(m.remove("model")), "not named"),
        (HashMap::clear, "neither its format version nor its model"),
    ];
    for (edit, words) in edits {
        save();
        with_metadata(&file, edit);
        assert!(refusal().contains(words), "{words}: {}", refusal());
    }
    // Cut short, and no file of this kind.
    save();
    let bytes = std::fs::read(&file).expect("the file");
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..length]).expect("written");
        assert!(refusal().contains("no state"), "{}", refusal());
    }
    std::fs::write(&file, b"not a state").expect("written");
    refusal();
}

/// Files with a few bytes changed anywhere are refused, or read as a state of the same sizes; nothing panics.
fn damaged_files_do_no_harm<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let fingerprint = model.fingerprint();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.safetensors");
    model.zero_state(1).save(&file, &fingerprint).expect("written");
    let whole = std::fs::read(&file).expect("the file");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    let mut rng = StdRng::seed_from_u64(1);
    let mut refused = 0;
    for number in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            // Nine in ten of them in the header, where they matter.
            let end = if number % 10 == 0 { bytes.len() } else { header };
            bytes[rng.random_range(0..end)] = rng.random();
        }
        std::fs::write(&file, &bytes).expect("written");
        match State::<B>::load(&file, &fingerprint, device) {
            Ok(state) => assert_eq!((state.batch(), state.layers.len()), (1, 3)),
            Err(error) => refused += usize::from(error.to_string().contains("state.safetensors")),
        }
    }
    println!("{refused} of 500 were refused");
    assert!(refused > 300);
}

/// Tensors that are not those of the model are named.
fn tensors_of_other_sizes_are_refused<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let fingerprint = model.fingerprint();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.safetensors");
    let mut narrow = model.zero_state(1);
    narrow.layers[2].ffn_x = Tensor::zeros([1, 31], device);
    narrow.save(&file, &fingerprint).expect("written");
    let said = State::<B>::load(&file, &fingerprint, device).expect_err("refused").to_string();
    assert!(said.contains("layers.2.ffn_x") && said.contains("[1, 32]") && said.contains("[1, 31]"), "{said}");
    let mut short = model.zero_state(1);
    short.layers.pop();
    short.save(&file, &fingerprint).expect("written");
    let said = State::<B>::load(&file, &fingerprint, device).expect_err("refused").to_string();
    assert!(said.contains("6 tensors, not 9"), "{said}");
}

/// One number for these weights, on every backend and out of every file, and another one for any other weights.
fn fingerprints_tell_weights_apart<B: RwkvBackend>(device: &B::Device) {
    let mut model = model::<B>(device);
    let fingerprint = model.fingerprint();
    // By another implementation of the documented format.
    assert_eq!(fingerprint.to_string(), "78163a713e6bcb6d31f178c32dfb54cc");
    assert_eq!(fingerprint.config(), &model.config());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("copy.safetensors");
    checkpoint::save(&model, &copy).expect("written");
    assert_eq!(checkpoint::load::<B>(&copy, device).expect("read").fingerprint(), fingerprint);
    let SequenceMixer::Rwkv4(att) = &mut model.blocks[2].att else { panic!("RWKV-4") };
    let decay = &mut att.time_decay;
    *decay = decay.clone().map(|decay| {
        let nudge =
            Tensor::zeros([48], device).slice_assign(std::slice::from_ref(&(7..8)), Tensor::from_data([1e-5], device));
        decay + nudge
    });
    assert_ne!(model.fingerprint(), fingerprint, "one weight of one vector moved");
}

/// The package's state after a prompt is ours in another order, and goes on here as it does there.
fn official_states_go_in_and_out<B: RwkvBackend>(device: &B::Device) {
    let model: Rwkv<B> = checkpoint::load(&Fixture::path("official_model"), device).expect("the fixture loads");
    let fixture = Fixture::open("official_state");
    let rows: Vec<Vec<f32>> =
        (0..10).map(|i| fixture.values(&format!("state.{i}")).into_iter().map(|x| x as f32).collect()).collect();
    let tokens: Vec<u32> = fixture.values("tokens").into_iter().map(|x| x as u32).collect();
    let (_, ours) = prefill(&model, model.zero_state(1), &tokens).expect("valid tokens");
    let ours = ours.to_official(StateLayout::Package).expect("one sequence");
    let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    for layer in 0..2 {
        let (got, want) = (&ours[5 * layer..5 * layer + 5], &rows[5 * layer..5 * layer + 5]);
        assert_close("att_x", &wide(&got[0]), &wide(&want[0]), 1e-5);
        assert_close("ffn_x", &wide(&got[4]), &wide(&want[4]), 1e-5);
        // The exponent is free: (a, b)·e^p is what they agree on.
        let sums = |five: &[Vec<f32>], i: usize| -> Vec<f64> {
            wide(&five[i]).iter().zip(wide(&five[3])).map(|(x, p)| x * p.exp()).collect()
        };
        assert_close("a", &sums(got, 1), &sums(want, 1), 1e-5);
        assert_close("b", &sums(got, 2), &sums(want, 2), 1e-5);
    }

    let config = model.config();
    let state = State::<B>::from_official(&rows, StateLayout::Package, &config, device).expect("fits");
    let next = fixture.values("next").into_iter().map(|x| x as i64).collect::<Vec<_>>();
    let next = Tensor::<B, 1, Int>::from_data(TensorData::new(next, [1]), device);
    let (logits, _) = model.step(next, state.clone());
    assert_close("logits after it", &values(logits), &fixture.values("logits"), 1e-5);

    // The other layout has the same vectors in another order.
    let matrix = state.to_official(StateLayout::ChatRwkv).expect("one sequence");
    for layer in 0..2 {
        for (place, package) in [4, 0, 1, 2, 3].into_iter().enumerate() {
            assert_eq!(matrix[5 * layer + place], rows[5 * layer + package]);
        }
    }
    let again = State::<B>::from_official(&matrix, StateLayout::ChatRwkv, &config, device).expect("fits");
    assert_close("there and back", &flat(&again), &flat(&state), 0.0);
    let refusal = |rows: &[Vec<f32>]| {
        State::<B>::from_official(rows, StateLayout::Package, &config, device).expect_err("refused").to_string()
    };
    assert!(refusal(&rows[..9]).contains("10 vectors"));
    let mut short = rows.clone();
    short[7].pop();
    assert!(refusal(&short).contains("vector 7"), "{}", refusal(&short));
    assert!(model.zero_state(2).to_official(StateLayout::Package).is_err());
}

on_every_backend!(
    states_survive_files,
    damaged_files_do_no_harm,
    tensors_of_other_sizes_are_refused,
    fingerprints_tell_weights_apart,
    official_states_go_in_and_out,
);
