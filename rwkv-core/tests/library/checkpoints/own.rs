//! Our own files: what goes in comes out, and what does not fit is refused by name.

use super::support::{fixture, refusal};
use burn::backend::Flex;
use rwkv_core::checkpoint::{self, read_config};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::{Path, PathBuf};

/// Rewrites the fixture's tensors and saves them elsewhere.
fn edited(
    folder: &Path,
    edit: impl Fn(&str, &[usize], &[u8]) -> Option<(String, Vec<usize>, Dtype, Vec<u8>)>,
) -> PathBuf {
    let bytes = std::fs::read(fixture("model.safetensors")).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensors: Vec<_> =
        file.tensors().iter().filter_map(|(name, tensor)| edit(name, tensor.shape(), tensor.data())).collect();
    let views = tensors.iter().map(|(name, shape, dtype, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("shape and data agree"))
    });
    let path = folder.join("edited.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).expect("serialised")).expect("written");
    path
}

#[test]
fn a_saved_model_is_bit_for_bit_the_loaded_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = checkpoint::load::<Flex>(&fixture("model.safetensors"), &Default::default()).expect("loads");
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&model, &path).expect("saves");
    let (before, after) =
        (std::fs::read(fixture("model.safetensors")).expect("file"), std::fs::read(&path).expect("file"));
    let (before, after) =
        (SafeTensors::deserialize(&before).expect("file"), SafeTensors::deserialize(&after).expect("file"));
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before.tensors() {
        let other = after.tensor(&name).unwrap_or_else(|_| panic!("{name} was saved"));
        assert_eq!((tensor.shape(), tensor.data()), (other.shape(), other.data()), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "no temporary file stays");
}

#[test]
fn a_run_directory_stands_for_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RwkvConfig { dim_att: 48, dim_ffn: 100, ..RwkvConfig::new(13, 2, 32) };
    let model = Rwkv::<Flex>::new(&config, 3, &Default::default());
    checkpoint::save(&model, &folder.path().join("model.safetensors")).expect("saves");
    assert_eq!(read_config(folder.path()).expect("reads"), config);
}

#[test]
fn half_precision_files_become_f32_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = edited(folder.path(), |name, shape, data| {
        // bf16 is the upper half of f32.
        let half = data.chunks_exact(4).flat_map(|x| [x[2], x[3]]).collect();
        Some((name.to_owned(), shape.to_vec(), Dtype::BF16, half))
    });
    let model = checkpoint::load::<Flex>(&path, &Default::default()).expect("loads");
    assert_eq!(model.head().weight().expect("a parameter").val().dtype(), burn::tensor::DType::F32);
    let exact = checkpoint::load::<Flex>(&fixture("model.safetensors"), &Default::default()).expect("loads");
    let (half, exact) =
        (model.head().weight().expect("a parameter").val(), exact.head().weight().expect("a parameter").val());
    let error = (half - exact.clone()).abs().max().into_scalar() / exact.abs().max().into_scalar();
    assert!(error > 0.0 && error < 1.0 / 128.0, "{error}");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let keep =
        |name: &str, shape: &[usize], data: &[u8]| Some((name.to_owned(), shape.to_vec(), Dtype::F32, data.to_vec()));
    let missing = edited(folder.path(), |n, s, d| (n != "blocks.1.ffn.value.weight").then(|| keep(n, s, d))?);
    assert!(refusal(&missing).contains("blocks.1.ffn.value.weight"), "{}", refusal(&missing));
    let extra = edited(folder.path(), |n, s, d| {
        if n == "ln_out.bias" {
            Some(("blocks.0.att.speed.weight".into(), s.to_vec(), Dtype::F32, d.to_vec()))
        } else {
            keep(n, s, d)
        }
    });
    assert!(refusal(&extra).contains("ln_out.bias"), "{}", refusal(&extra));
    let misshapen = edited(folder.path(), |n, s, d| {
        if n == "blocks.2.att.time_first" {
            Some((n.into(), vec![24, 2], Dtype::F32, d.to_vec()))
        } else {
            keep(n, s, d)
        }
    });
    let said = refusal(&misshapen);
    assert!(said.contains("blocks.2.att.time_first") && said.contains("[48]") && said.contains("[24, 2]"), "{said}");
    let unknown = edited(folder.path(), |n, s, d| keep(&n.replace("blocks.0.ln0.bias", "blocks.0.ln9.bias"), s, d));
    assert!(refusal(&unknown).contains("blocks.0.ln0.bias"), "{}", refusal(&unknown));
}

#[test]
fn broken_files_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.safetensors");
    let whole = std::fs::read(fixture("model.safetensors")).expect("the fixture");
    let absurd = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    let not_json = [4u64.to_le_bytes().as_slice(), b"oops"].concat();
    let bad_header = [9u64.to_le_bytes().as_slice(), b"{\"a\": 1}}"].concat();
    for (bytes, what) in [
        (&whole[..whole.len() - 100], "cut short"),
        (&whole[..200], "cut short"),
        (&whole[..5], "no checkpoint"),
        (&[], "is empty"),
        (absurd.as_slice(), "no checkpoint"),
        (not_json.as_slice(), "no checkpoint"),
        (bad_header.as_slice(), "unreadable safetensors header"),
    ] {
        std::fs::write(&path, bytes).expect("written");
        let said = refusal(&path);
        assert!(said.contains(what) && said.contains("broken.safetensors") && !said.contains('\n'), "{said}");
    }
    assert!(refusal(&folder.path().join("absent.safetensors")).contains("cannot read"));
}

#[test]
fn a_model_without_tokens_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = edited(folder.path(), |name, shape, data| {
        let vocabulary = name == "emb.weight" || name == "head.weight";
        let shape = if vocabulary { vec![0, shape[1]] } else { shape.to_vec() };
        Some((name.to_owned(), shape, Dtype::F32, if vocabulary { Vec::new() } else { data.to_vec() }))
    });
    assert!(refusal(&path).contains("vocab_size"), "{}", refusal(&path));
}

#[test]
fn a_state_of_several_sequences_does_not_write_text() {
    let model = checkpoint::load::<Flex>(&fixture("model.safetensors"), &Default::default()).expect("loads");
    let sampler = rwkv_core::generate::Sampler::new(1.0, 1.0, 0, 0).expect("valid");
    let generator = rwkv_core::generate::Generator::new(&model, model.zero_state(2), &[1], sampler);
    assert!(generator.expect_err("refused").to_string().contains("2 sequences"));
}
