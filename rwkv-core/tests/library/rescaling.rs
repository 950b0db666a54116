//! The rescaling that keeps deep models within `f16`.

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Int, Tensor};
use rwkv_core::checkpoint::{self, Checkpoint};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{Capture, Precision, Projection, Rwkv, SequenceMixer};
use std::path::Path;

const LAYERS: usize = 14;

/// A model of 14 layers whose blocks add `scale` times as much to the residual stream as a trained one's might.
fn save_model(path: &Path, scale: f64) {
    struct Shake(f64);
    impl ModuleMapper<Flex> for Shake {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<Flex, D>>) -> Param<Tensor<Flex, D>> {
            let scale = if D == 2 { self.0 } else { 0.05 };
            param.map(|x| {
                let n = x.shape().num_elements();
                let noise = Tensor::<Flex, 1, Int>::arange(0..n as i64, &x.device()).float() * 0.7311;
                x.clone() + noise.sin().reshape(x.dims()) * scale
            })
        }
    }
    let model = Rwkv::<Flex>::new(&RwkvConfig::new(11, LAYERS, 16), 0, &Default::default()).map(&mut Shake(scale));
    checkpoint::save(&model, path).expect("saved");
}

fn run(model: &Rwkv<Flex>) -> (Vec<f32>, Capture<Flex>) {
    let tokens = Tensor::<Flex, 2, Int>::from_data([[1, 7, 3, 0, 5]], &Default::default());
    let mut streams = Capture::new((0..LAYERS).map(|l| format!("blocks.{l}")));
    let (logits, _) = model.forward_hooked(tokens, model.zero_state(1), &mut streams);
    (logits.into_data().iter::<f32>().collect(), streams)
}

fn largest(x: &Tensor<Flex, 3>) -> f32 {
    x.clone().cast(DType::F32).abs().max().into_scalar()
}

fn error(got: &[f32], want: &[f32]) -> f32 {
    let scale = want.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    // NaN compares with nothing: it must not look like no error.
    got.iter().zip(want).fold(0.0, |max, (x, y)| if (x - y).is_nan() { f32::INFINITY } else { max.max((x - y).abs()) })
        / scale
}

#[test]
fn the_stream_is_halved_every_six_layers_and_the_logits_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    save_model(&path, 0.3);
    let checkpoint = Checkpoint::open(&path).expect("opens");
    let (want, exact) = run(&checkpoint.model(&Default::default()).expect("loads"));
    let model = checkpoint.tensor_model::<Flex>(Precision::F16, &Default::default()).expect("Flex has f16");
    let (got, streams) = run(&model);
    let worst = error(&got, &want);
    println!("f16 logits: {worst:.1e} of the largest");
    assert!(worst < 2e-2, "{worst}");
    for l in 0..LAYERS {
        let name = format!("blocks.{l}");
        let ratio = largest(exact.get(&name).expect("kept")) / largest(streams.get(&name).expect("kept"));
        let expected = 2f32.powi((l / 6) as i32); // before the halving that follows layers 5 and 11
        assert!((ratio / expected - 1.0).abs() < 0.03, "{name}: {ratio}, expected {expected}");
    }
}

#[test]
fn a_stream_beyond_f16_stays_finite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    save_model(&path, 9.0);
    let checkpoint = Checkpoint::open(&path).expect("opens");
    let (want, exact) = run(&checkpoint.model(&Default::default()).expect("loads"));
    let top = largest(exact.get("blocks.13").expect("kept"));
    println!("the stream reaches {top:e}");
    assert!(top > 65_504.0 && top < 4.0 * 65_504.0, "a stream that f16 holds only when rescaled: {top:e}");
    let (got, _) = run(&checkpoint.tensor_model(Precision::F16, &Default::default()).expect("loads"));
    let worst = error(&got, &want);
    println!("f16 logits: {worst:.1e} of the largest");
    assert!(worst < 5e-2, "{worst}");
}

#[test]
fn a_rescaled_model_is_still_the_same_model() {
    struct Coarse;
    impl ModuleMapper<Flex> for Coarse {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<Flex, D>>) -> Param<Tensor<Flex, D>> {
            // Multiples of 1/64 are exact in f16, also when divided by four; vectors stay f32.
            param.map(|x| if D == 2 { (x * 64.0).round() / 64.0 } else { x })
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    save_model(&path, 0.3);
    let coarse = checkpoint::load::<Flex>(&path, &Default::default()).expect("loads").map(&mut Coarse);
    checkpoint::save(&coarse, &path).expect("saved");
    let checkpoint = Checkpoint::open(&path).expect("opens");
    let whole = checkpoint.model::<Flex>(&Default::default()).expect("loads").fingerprint();
    let rescaled = checkpoint.tensor_model::<Flex>(Precision::F16, &Default::default()).expect("loads");
    assert_eq!(rescaled.fingerprint(), whole);
    assert_eq!(checkpoint.model_in::<Flex>(Precision::F16, &Default::default()).expect("loads").fingerprint(), whole);
}

#[test]
fn numbers_that_a_format_does_not_hold_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (value, refusing) in [(1e5, vec![Precision::F16]), (f32::NAN, vec![Precision::Int8])] {
        let path = folder.path().join("model.safetensors");
        let mut model = Rwkv::<Flex>::new(&RwkvConfig::new(11, 1, 16), 0, &Default::default());
        let weight = Tensor::<Flex, 2>::zeros([16, 16], &Default::default());
        let bad = weight.slice_assign([3..4, 5..6], Tensor::full([1, 1], value, &Default::default()));
        let SequenceMixer::Rwkv4(att) = &mut model.blocks[0].att else { panic!("RWKV-4") };
        att.key = Projection::from_weight(Param::from_tensor(bad));
        checkpoint::save(&model, &path).expect("saved");
        let checkpoint = Checkpoint::open(&path).expect("opens");
        for precision in Precision::ALL {
            let outcome = checkpoint.model_in::<Flex>(precision, &Default::default());
            assert_eq!(outcome.is_err(), refusing.contains(&precision), "{value} in {}", precision.name());
            if let Err(error) = outcome {
                assert!(error.to_string().contains("blocks.0.att.key.weight"), "{error}");
            }
        }
        let tensors = checkpoint.tensor_model::<Flex>(Precision::F16, &Default::default());
        assert_eq!(tensors.is_err(), value == 1e5, "{value}");
    }
}

#[test]
fn changed_weights_are_not_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    save_model(&path, 0.3);
    let checkpoint = Checkpoint::open(&path).expect("opens");
    for model in [
        checkpoint.tensor_model::<Flex>(Precision::F16, &Default::default()).expect("loads"),
        checkpoint.model_in::<Flex>(Precision::Int8, &Default::default()).expect("loads"),
    ] {
        let again = folder.path().join("again.safetensors");
        let said = checkpoint::save(&model, &again).expect_err("refused").to_string();
        assert!(said.contains("weights as they were trained"), "{said}");
        assert!(!again.exists());
    }
    let int8 = checkpoint.tensor_model::<Flex>(Precision::Int8, &Default::default()).expect_err("no such tensors");
    assert!(int8.to_string().contains("int8"), "{int8}");
}
