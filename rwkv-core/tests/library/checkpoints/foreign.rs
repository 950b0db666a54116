//! Files of PyTorch, transformers and rwkv.cpp.

use super::support::{FOREIGN, distance, expected, fixture, foreign, refusal};
use burn::backend::{Autodiff, Flex};
use rwkv_core::checkpoint::{self, Checkpoint, Container, FileDtype};
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::Error;
use rwkv_core::model::Rwkv;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::{Path, PathBuf};

#[test]
fn every_format_gives_the_reference_logits() {
    for (file, logits) in FOREIGN {
        let far = distance(&foreign(file), &foreign("expected.safetensors"), logits);
        println!("{file}: logits at most {far:.2e} from the reference");
        assert!(far < 1e-5, "{file}: {far}");
    }
    // The expectations differ from one another by far more: a file read in another precision would be noticed.
    let of = |logits| expected(&foreign("expected.safetensors"), logits);
    let apart = of("logits_f16").iter().zip(of("logits_f32")).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(apart > 1e-4, "{apart}");
}

#[test]
fn sizes_formats_and_kinds_are_read_from_the_files() {
    let wanted = RwkvConfig { dim_att: 12, dim_ffn: 20, ..RwkvConfig::new(11, 2, 8) };
    for (file, container, dtype) in [
        ("f32.pth", Container::Pth, FileDtype::F32),
        ("f16.pth", Container::Pth, FileDtype::F16),
        ("bf16.pth", Container::Pth, FileDtype::Bf16),
        ("hugging_face", Container::Safetensors, FileDtype::F32),
        ("hugging_face_shards", Container::Safetensors, FileDtype::F32),
        ("hugging_face_torch", Container::Pth, FileDtype::Bf16),
        ("ggmf_f32.bin", Container::RwkvCpp, FileDtype::F32),
        ("ggmf_f16.bin", Container::RwkvCpp, FileDtype::F16),
    ] {
        let checkpoint = Checkpoint::open(&foreign(file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(checkpoint.config(), &wanted, "{file}");
        assert_eq!(checkpoint.container(), container, "{file}");
        let key = checkpoint.tensor("blocks.1.ffn.key.weight").expect("every model has one");
        assert_eq!((key.shape, key.dtype), ([20, 8].as_slice(), dtype), "{file}");
        let mix = checkpoint.tensor("blocks.1.att.time_mix_r").expect("every model has one");
        assert_eq!(mix.shape, [1, 1, 8], "{file}");
        assert_eq!(checkpoint.tensors().count(), 18 * 2 + 6, "{file}");
    }
}

#[test]
fn the_kind_is_told_by_content_and_not_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let disguised = folder.path().join("model.safetensors");
    std::fs::copy(foreign("bf16.pth"), &disguised).expect("copied");
    assert_eq!(Checkpoint::open(folder.path()).expect("opens").container(), Container::Pth);
    std::fs::copy(foreign("ggmf_f32.bin"), &disguised).expect("copied");
    assert_eq!(Checkpoint::open(&disguised).expect("opens").container(), Container::RwkvCpp);
}

#[test]
fn loaded_parameters_keep_their_names_ids_and_gradients() {
    type B = Autodiff<Flex>;
    let loaded = checkpoint::load::<B>(&foreign("bf16.pth"), &Default::default()).expect("loads");
    let fresh = Rwkv::<B>::new(&loaded.config(), 0, &Default::default());
    assert_eq!(loaded.named_parameters(), fresh.named_parameters());
    assert!(loaded.blocks[1].att.rwkv4().expect("RWKV-4").time_decay.val().is_require_grad());
    assert!(loaded.head().weight().expect("a parameter").val().is_require_grad());
    let tokens = burn::tensor::Tensor::from_data([[1, 2, 3]], &Default::default());
    let (logits, _) = loaded.forward(tokens, loaded.zero_state(1));
    let gradients = logits.powf_scalar(2.0).mean().backward();
    let gradient = loaded.blocks[0]
        .ffn
        .rwkv4()
        .expect("RWKV-4")
        .receptance
        .weight()
        .expect("a parameter")
        .val()
        .grad(&gradients)
        .expect("tracked");
    assert!(gradient.abs().max().into_scalar() > 0.0);
}

/// The refusal of a fixture, which must name each of these.
fn refused(file: &str, words: &[&str]) {
    let said = refusal(&foreign(file));
    for word in words.iter().chain(&[file]) {
        assert!(said.contains(word), "{word} in: {said}");
    }
}

#[test]
fn pickles_run_nothing_and_name_what_they_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = std::env::current_dir().expect("a folder");
    refused("os_system.pth", &["system", "any program"]);
    assert!(!here.join("owned").exists() && !folder.path().join("owned").exists(), "the pickle must not run");
    refused("other_global.pth", &["slice"]);
    refused("nested.pth", &["epoch", "a number"]);
    refused("int64.pth", &["head.weight", "torch.LongStorage"]);
    refused("strided.pth", &["head.weight", "strided", "[11, 8]"]);
    refused("legacy.pth", &["before 1.6"]);
    refused("pip.pth", &["package rwkv", "_strategy"]);
    let error = Checkpoint::open(&foreign("pip.pth")).expect_err("refused");
    assert!(matches!(error, Error::OtherModel { .. }), "{error:?}");
}

/// The Hugging Face fixture with one more tensor.
fn with_tensor(folder: &Path, name: &str) -> PathBuf {
    let bytes = std::fs::read(foreign("hugging_face/model.safetensors")).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let extra = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("one number");
    let tensors = file.tensors().into_iter().chain([(name.to_owned(), extra)]);
    let path = folder.join("variant.safetensors");
    std::fs::write(&path, safetensors::serialize(tensors, None).expect("serialised")).expect("written");
    path
}

#[test]
fn other_generations_and_variants_are_called_by_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, family) in [
        ("blocks.1.att.r_k", "RWKV-7"),
        ("blocks.1.att.time_maa_x", "RWKV-6"),
        ("rwkv.blocks.1.attention.gate.weight", "RWKV-5.2"),
        ("blocks.0.att.ln_x.weight", "RWKV-5 "),
        ("blocks.1.tiny_q.weight", "RWKV-4a"),
        ("blocks.1.att.qq.weight", "RWKV-4b"),
        ("blocks.1.att.att_mask", "RWKV-4b"),
        ("blocks.0.ffnPre.key.weight", "channel-mix in the place"),
        ("head_q.weight", "looks back"),
        ("pos_emb_x", "images"),
        ("blocks.1.ffn.aa.weight", "gated"),
        ("blocks.1.att.key.lora_A", "LoRA"),
    ] {
        let path = with_tensor(folder.path(), name);
        let error = Checkpoint::open(&path).expect_err("refused");
        assert!(matches!(error, Error::OtherModel { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains(family) && said.contains("RWKV-4") && said.contains("variant.safetensors"), "{said}");
    }
    let said = refusal(&with_tensor(folder.path(), "rwkv.something.new"));
    assert!(said.contains("something.new") && said.contains("no tensor of this name"), "{said}");
}

#[test]
fn other_files_are_refused_with_what_is_known_about_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    for (bytes, words) in [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".as_slice(), "git lfs pull"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x80\x04\x95", "bare pickle"),
        (b"once upon a time", "no checkpoint"),
        (b"{\"hidden_size\": 8}", "no index"),
        (b"{\"weight_map\": {}}", "without tensors"),
        (b"{\"weight_map\": {\"emb.weight\": \"../elsewhere\"}}", "not one beside it"),
        (b"{\"weight_map\": {\"emb.weight\": \"absent\"}}", "absent"),
        (b"fmgg\x65\0\0\0\x0b\0\0\0\x08\0\0\0\x02\0\0\0\x07\0\0\0", "Q5_0"),
        (b"fmgg\x66\0\0\0\x0b\0\0\0\x08\0\0\0\x02\0\0\0\0\0\0\0", "version 102"),
        (b"PK\x03\x04", "cut short"),
    ] {
        std::fs::write(&path, bytes).expect("written");
        let said = refusal(&path);
        assert!(said.contains(words), "{words} in: {said}");
    }
    assert!(refusal(&folder.path().join("none")).contains("cannot read"));
    assert!(refusal(folder.path()).contains("model.safetensors"), "a folder without a model");
    assert!(refusal(&fixture("model_expected.safetensors")).contains("tokens of dtype I64"));
    let tensor = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("one number");
    std::fs::write(&path, safetensors::serialize([("h.0.attn", tensor)], None).expect("serialised")).expect("written");
    let said = refusal(&path);
    assert!(said.contains("no RWKV model") && said.contains("h.0.attn"), "{said}");
}

#[test]
fn every_truncation_is_refused() {
    for file in ["bf16.pth", "hugging_face/model.safetensors", "ggmf_f16.bin"] {
        let whole = std::fs::read(foreign(file)).expect("the fixture");
        assert!(Checkpoint::from_bytes(file.as_ref(), whole.clone()).is_ok());
        for cut in (0..whole.len()).step_by(7) {
            let error = Checkpoint::from_bytes(file.as_ref(), whole[..cut].to_vec());
            assert!(error.is_err(), "{file} cut at {cut}");
        }
    }
}
