//! From format to format and back, bit for bit.

use super::support::{FOREIGN, distance, fixture, foreign, numbers};
use rwkv_core::checkpoint::{Checkpoint, ExportOptions, FileDtype, Format};
use std::path::Path;

const FORMATS: [Format; 3] = [Format::Official, Format::HuggingFace, Format::RwkvCpp];

fn export(checkpoint: &Checkpoint, folder: &Path, format: Format, dtype: Option<FileDtype>) -> Checkpoint {
    let out = folder.join(format!("{format:?}-{dtype:?}"));
    let options = ExportOptions { dtype, ..ExportOptions::default() };
    checkpoint.export(&out, format, &options).unwrap_or_else(|error| panic!("{error}"));
    Checkpoint::open(&out).unwrap_or_else(|error| panic!("{error}"))
}

/// Shapes, formats and bits agree; `but` names tensors that may differ.
fn assert_same(one: &Checkpoint, other: &Checkpoint, but: &str) {
    assert_eq!(one.config(), other.config());
    for ((name, x), (other_name, y)) in one.tensors().zip(other.tensors()) {
        assert_eq!(name, other_name);
        assert_eq!((x.shape, x.dtype), (y.shape, y.dtype), "{name}");
        assert!(!but.is_empty() && name.ends_with(but) || x.bytes == y.bytes, "{name} changed");
    }
}

#[test]
fn safetensors_in_both_namings_keep_every_bit() {
    for (file, _) in FOREIGN {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Checkpoint::open(&foreign(file)).expect("opens");
        let official = export(&source, folder.path(), Format::Official, None);
        assert_same(&source, &official, "");
        let hugging_face = export(&official, folder.path(), Format::HuggingFace, None);
        assert_same(&source, &hugging_face, "");
        let back = folder.path().join("back");
        hugging_face.export(&back, Format::Official, &ExportOptions::default()).expect("exports");
        assert_eq!(
            std::fs::read(back).expect("written"),
            std::fs::read(official.path()).expect("written"),
            "{file}: the same file again"
        );
    }
}

#[test]
fn rwkv_cpp_keeps_every_bit_but_the_decays_last() {
    let mut worst = 0.0f64;
    for (file, _) in FOREIGN {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Checkpoint::open(&foreign(file)).expect("opens");
        let cpp = export(&source, folder.path(), Format::RwkvCpp, None);
        for (name, tensor) in source.tensors() {
            let (before, after) = (numbers(&source, name), numbers(&cpp, name));
            if name.ends_with("time_decay") {
                for (x, y) in before.iter().zip(&after).map(|(x, y)| (f64::from(*x), f64::from(*y))) {
                    let error = (x - y).abs() / (1.0 + x.abs());
                    worst = worst.max(error);
                    assert!(error <= 6.1e-8, "{file}, {name}: {x} became {y}");
                }
            } else {
                assert_eq!(before, after, "{file}, {name}");
            }
            if tensor.shape.len() != 2 {
                assert_eq!(cpp.tensor(name).expect("there").dtype, FileDtype::F32, "{name}: vectors are f32");
            }
        }
        // Back in the source's own format nothing is left of the difference where that format is a half.
        let dtype = source.tensor("emb.weight").expect("there").dtype;
        if file.ends_with("16.pth") || file == "hugging_face_torch" {
            assert_same(&source, &export(&cpp, folder.path(), Format::Official, Some(dtype)), "");
        }
        // A second time through the format is a fixed point for everything else.
        let again = folder.path().join("again.bin");
        cpp.export(&again, Format::RwkvCpp, &ExportOptions::default()).expect("exports");
        assert_same(&cpp, &Checkpoint::open(&again).expect("opens"), "time_decay");
    }
    println!("time_decay came back within {worst:.2e} of 1 + its size");
}

#[test]
fn decays_of_all_sizes_come_back_from_rwkv_cpp() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = std::fs::read(foreign("ggmf_f32.bin")).expect("the fixture");
    let name = b"blocks.0.att.time_decay";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("it has one") + name.len();
    let set = |bytes: &mut Vec<u8>, index: usize, value: f32| {
        bytes[at + 4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    };
    // The format's ends: a channel that forgets at once, one that never does.
    for (index, raw) in [(0, -80.0f32), (1, 30.0), (2, -1e-3)] {
        set(&mut bytes, index, -f64::from(raw).exp() as f32);
    }
    set(&mut bytes, 3, -0.0);
    let path = folder.path().join("decays.bin");
    std::fs::write(&path, &bytes).expect("written");
    let decays = numbers(&Checkpoint::open(&path).expect("opens"), "blocks.0.att.time_decay");
    for (got, raw) in decays.iter().zip([-80.0f32, 30.0, -1e-3]) {
        assert!((got - raw).abs() <= 6.1e-8 * (1.0 + raw.abs()), "{got} for {raw}");
    }
    assert_eq!(decays[3], f32::NEG_INFINITY, "exp(−∞) is 0 again");
    for wrong in [0.5, f32::NAN] {
        set(&mut bytes, 3, wrong);
        let said = Checkpoint::from_bytes("decays.bin".as_ref(), bytes.clone()).expect_err("refused").to_string();
        assert!(said.contains("blocks.0.att.time_decay"), "{said}");
    }
}

#[test]
fn our_rwkv_cpp_file_is_the_documented_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Checkpoint::open(&foreign("f32.pth")).expect("opens");
    for (dtype, made_by_python) in [(FileDtype::F16, "ggmf_f16.bin"), (FileDtype::F32, "ggmf_f32.bin")] {
        let ours = export(&source, folder.path(), Format::RwkvCpp, Some(dtype));
        let theirs = Checkpoint::open(&foreign(made_by_python)).expect("opens");
        assert_same(&ours, &theirs, "time_decay");
        let (ours, theirs) = (std::fs::read(ours.path()).expect("file"), std::fs::read(theirs.path()).expect("file"));
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(ours[8..24], theirs[8..24], "sizes and dtype");
        assert_eq!(ours[..8], *b"fmgg\x65\0\0\0", "magic and version 101");
    }
}

#[test]
fn a_wider_format_and_back_keeps_every_bit() {
    for (file, dtype) in [("bf16.pth", FileDtype::Bf16), ("f16.pth", FileDtype::F16)] {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Checkpoint::open(&foreign(file)).expect("opens");
        let wide = export(&source, folder.path(), Format::HuggingFace, Some(FileDtype::F32));
        assert!(wide.tensors().all(|(_, tensor)| tensor.dtype == FileDtype::F32));
        assert_same(&source, &export(&wide, folder.path(), Format::Official, Some(dtype)), "");
    }
}

#[test]
fn narrowing_is_the_rounding_of_pytorch() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Checkpoint::open(&foreign("f32.pth")).expect("opens");
    for (dtype, made_by_torch) in [(FileDtype::Bf16, "bf16.pth"), (FileDtype::F16, "f16.pth")] {
        let ours = export(&source, folder.path(), Format::Official, Some(dtype));
        assert_same(&ours, &Checkpoint::open(&foreign(made_by_torch)).expect("opens"), "");
    }
}

#[test]
fn the_golden_logits_survive_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Checkpoint::open(&fixture("model.safetensors")).expect("opens");
    for format in FORMATS {
        let exported = export(&source, folder.path(), format, None);
        let far = distance(exported.path(), &fixture("model_expected.safetensors"), "logits_f64");
        println!("{format:?}: logits at most {far:.2e} from the reference");
        assert!(far < 1e-5, "{format:?}: {far}");
    }
}

#[test]
fn hugging_faces_config_says_what_the_model_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Checkpoint::open(&foreign("bf16.pth")).expect("opens");
    let json = |dtype, context_length| -> serde_json::Value {
        let out = folder.path().join("out");
        source.export(&out, Format::HuggingFace, &ExportOptions { dtype, context_length }).expect("exports");
        serde_json::from_str(&std::fs::read_to_string(out.join("config.json")).expect("written")).expect("JSON")
    };
    let by_transformers = std::fs::read_to_string(foreign("hugging_face/config.json")).expect("the fixture");
    let by_transformers: serde_json::Value = serde_json::from_str(&by_transformers).expect("JSON");
    let ours = json(None, Some(32));
    for (key, value) in by_transformers.as_object().expect("an object") {
        if !["dtype", "transformers_version"].contains(&key.as_str()) {
            assert_eq!(&ours[key], value, "{key}");
        }
    }
    assert_eq!(ours["torch_dtype"], "bfloat16");
    let half = json(Some(FileDtype::F16), None);
    assert_eq!((&half["torch_dtype"], &half["rescale_every"]), (&"float16".into(), &6.into()));
    assert_eq!(half["context_length"], 1024);
}

#[test]
fn what_a_format_cannot_hold_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = std::fs::read(foreign("ggmf_f32.bin")).expect("the fixture");
    let at = bytes.windows(11).position(|window| window == b"head.weight").expect("it has one") + 11;
    bytes[at..at + 4].copy_from_slice(&70000f32.to_le_bytes());
    let source = Checkpoint::from_bytes("large.bin".as_ref(), bytes).expect("opens");
    let out = folder.path().join("out.safetensors");
    std::fs::write(&out, "before").expect("written");
    let refused = |format, dtype| {
        let options = ExportOptions { dtype: Some(dtype), ..ExportOptions::default() };
        source.export(&out, format, &options).expect_err("refused").to_string()
    };
    let said = refused(Format::Official, FileDtype::F16);
    assert!(said.contains("head.weight") && said.contains("7e4") && said.contains("f16"), "{said}");
    let said = refused(Format::RwkvCpp, FileDtype::Bf16);
    assert!(said.contains("bf16") && said.contains("rwkv.cpp"), "{said}");
    assert_eq!(std::fs::read(&out).expect("still there"), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no temporary file stays");
}

#[test]
fn a_checkpoint_may_be_replaced_by_its_own_conversion() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model");
    std::fs::copy(foreign("bf16.pth"), &file).expect("copied");
    let source = Checkpoint::open(&file).expect("opens");
    source.export(&file, Format::Official, &ExportOptions::default()).expect("exports");
    assert_same(&Checkpoint::open(&foreign("bf16.pth")).expect("opens"), &Checkpoint::open(&file).expect("opens"), "");
}
