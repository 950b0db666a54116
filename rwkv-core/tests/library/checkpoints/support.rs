//! Fixtures, and what the tests ask of a checkpoint.

use burn::backend::Flex;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::checkpoint::{self, Checkpoint, FileDtype};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// A file in the folder of fixtures.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A file that `fixtures/make_checkpoint_fixtures.py` made.
pub fn foreign(name: &str) -> PathBuf {
    fixture("checkpoints").join(name)
}

/// Everything that [`Checkpoint::open`] takes, and which logits it should have.
pub const FOREIGN: [(&str, &str); 8] = [
    ("f32.pth", "logits_f32"),
    ("f16.pth", "logits_f16"),
    ("bf16.pth", "logits_bf16"),
    ("hugging_face", "logits_f32"),
    ("hugging_face_shards", "logits_f32"),
    ("hugging_face_torch", "logits_bf16"),
    ("ggmf_f32.bin", "logits_f32"),
    ("ggmf_f16.bin", "logits_ggmf_f16"),
];

/// The error of a checkpoint that must not load, which is one line.
pub fn refusal(path: &Path) -> String {
    let said = checkpoint::load::<Flex>(path, &Default::default()).expect_err("must be refused").to_string();
    assert!(!said.contains('\n'), "{said}");
    said
}

/// A tensor of expected numbers.
pub fn expected(file: &Path, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(file).expect("the fixture is committed");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = file.tensor(name).expect("the fixture has it");
    let numbers = tensor.data().as_chunks::<8>().0.iter();
    match tensor.dtype() {
        Dtype::F64 => numbers.map(|x| f64::from_le_bytes(*x)).collect(),
        Dtype::I64 => numbers.map(|x| i64::from_le_bytes(*x) as f64).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The largest distance of a model's logits from the expected ones, after every token.
pub fn distance(model: &Path, file: &Path, logits: &str) -> f64 {
    let model = checkpoint::load::<Flex>(model, &Default::default()).unwrap_or_else(|error| panic!("{error}"));
    let tokens: Vec<i64> = expected(file, "tokens").into_iter().map(|token| token as i64).collect();
    let count = tokens.len();
    let tokens = Tensor::<Flex, 2, Int>::from_data(TensorData::new(tokens, [1, count]), &Default::default());
    let (got, _) = model.forward(tokens, model.zero_state(1));
    let (got, want) = (got.into_data().iter::<f64>().collect::<Vec<_>>(), expected(file, logits));
    assert_eq!(got.len(), want.len());
    let far = |x: f64| if x.is_nan() { f64::INFINITY } else { x.abs() };
    got.iter().zip(want).map(|(x, y)| far(x - y)).fold(0.0, f64::max)
}

/// A tensor's numbers, whatever their format.
pub fn numbers(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name).expect("it has the tensor");
    let halves = || tensor.bytes.as_chunks::<2>().0.iter();
    match tensor.dtype {
        FileDtype::F32 => tensor.bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        FileDtype::F16 => halves().map(|x| burn::tensor::f16::from_le_bytes(*x).to_f32()).collect(),
        FileDtype::Bf16 => halves().map(|x| burn::tensor::bf16::from_le_bytes(*x).to_f32()).collect(),
    }
}
