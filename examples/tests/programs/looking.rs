//! The programs that measure a model and look into it: `speed` and `inspect`; and `--dtype` in all that run one.

use crate::support::{Folder, failure, success};
use serde_json::Value;

fn trained() -> (Folder, String) {
    let folder = Folder::new();
    // Enough to learn which letter follows which, so that predictions use the prompt.
    folder.train_for("150", &[]);
    let run = folder.arg("run");
    (folder, run)
}

fn json(name: &str, args: &[&str]) -> Value {
    serde_json::from_str(&success(name, &[args, &["--json"]].concat())).expect("JSON and nothing else")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn speed_reports_what_its_users_read() {
    let (_folder, run) = trained();
    for dtype in ["f32", "f16", "bf16", "bf16-products", "int8"] {
        let report = json("speed", &["--model", &run, "--dtype", dtype, "--prompt-tokens", "40", "--tokens", "5"]);
        for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "decode_gb_per_second", "load_seconds"] {
            assert!(report[key].as_f64().expect("a number") > 0.0, "{dtype} {key}: {report}");
        }
        assert_eq!(report["dtype"], dtype);
        // 2 layers of width 32; embedding and head are of one size, and 11C a layer and 4C elsewhere is vectors.
        let blocks = 13 * 32 * 32 * 2;
        let head = (report["num_params"].as_u64().expect("a number") - blocks - 2 * 11 * 32 - 4 * 32) / 2;
        let scales = 4 * (head / 32 + 2 * (3 * 32 + 32 + 128 + 2 * 32));
        let bytes = match dtype {
            "f32" => 4 * (blocks + head),
            "int8" => blocks + head + scales,
            _ => 2 * (blocks + head),
        };
        assert_eq!(report["decode_bytes_per_token"], bytes, "{dtype}");
    }
    assert!(success("speed", &["--model", &run, "--tokens", "2"]).contains("GB/s of weights"));
}

#[test]
fn fewer_bits_keep_the_logits_and_the_state() {
    let (folder, run) = trained();
    let logits = |args: &[&str]| {
        numbers(&json("logits", &[&["--model", &run, "--tokens", "1,2,3,4,5,6,7"], args].concat())["logits"])
    };
    let exact = logits(&[]);
    let scale = exact.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    for (dtype, tolerance) in [("f16", 2e-3), ("bf16", 2e-2), ("bf16-products", 2e-2), ("int8", 3e-2)] {
        let got = logits(&["--dtype", dtype]);
        let worst = got.iter().zip(&exact).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / scale;
        assert!(worst > 0.0 && worst < tolerance, "{dtype}: {worst}");
    }
    // A state belongs to the numbers that made it.
    let state = folder.arg("state.safetensors");
    let args = ["--model", run.as_str(), "--prompt", "the ", "--tokens", "3"];
    success("generate", &[&args[..], &["--dtype", "int8", "--save-state", &state]].concat());
    success("generate", &[&args[..], &["--dtype", "int8", "--load-state", &state]].concat());
    let said = failure("generate", &[&args[..], &["--load-state", &state]].concat(), 1);
    assert!(said.contains("state.safetensors"), "{said}");
}

#[test]
fn inspect_draws_the_decays_and_traces_a_prediction() {
    let (folder, run) = trained();
    let out = folder.arg("inspected");
    let args = ["--model", run.as_str(), "--out", out.as_str()];
    let decays = json("inspect", &args);
    assert!(decays.get("tokens").is_none(), "nothing is traced without a prompt");
    let decays = decays["decays"].as_array().expect("a list");
    assert_eq!(decays.len(), 2);
    for layer in decays.iter().map(numbers) {
        assert_eq!(layer.len(), 32);
        assert!(layer.windows(2).all(|pair| pair[0] <= pair[1]) && layer.iter().all(|x| (0.0..=1.0).contains(x)));
    }
    let svg = std::fs::read_to_string(folder.at("inspected").join("decay.svg")).expect("drawn");
    assert!(svg.starts_with("<svg") && svg.contains("layer 1"));

    let report = json("inspect", &[&args[..], &["--prompt", "the quick br"]].concat());
    assert_eq!(report["tokens"].as_array().expect("a list").len(), 12);
    assert_eq!(report["target"], "o", "the text goes on like this");
    let (clean, corrupted) = (report["clean"].as_f64().expect("p"), report["corrupted"].as_f64().expect("p"));
    assert!(clean > 0.5 && corrupted < clean, "{clean} {corrupted}");
    let effects = numbers(&report["token_effects"]);
    let most = report["corrupt"]["start"].as_u64().expect("a token") as usize;
    assert!(effects[..11].iter().all(|x| *x <= effects[most]) && most < 11, "the last token is left out");
    assert!((clean - corrupted - effects[most]).abs() < 1e-4, "noise on the one token that matters most");
    // What comes out of the last layer at the last token is what the head reads: putting it back mends everything.
    let restored: Vec<Vec<f64>> = report["restored"].as_array().expect("layers").iter().map(numbers).collect();
    assert!((restored[1][11] - (clean - corrupted)).abs() < 1e-4, "{restored:?}");
    assert!(restored[1][..11].iter().all(|x| x.abs() < 1e-5), "the last layer's other outputs reach nothing");
    assert!(
        restored.iter().all(|layer| layer[..most].iter().all(|x| x.abs() < 1e-5)),
        "noise does not go back in time"
    );
    let svg = std::fs::read_to_string(folder.at("inspected").join("trace.svg")).expect("drawn");
    assert!(svg.starts_with("<svg") && svg.contains("Prediction"));
}

#[test]
fn wrong_arguments_get_one_sentence() {
    let (folder, run) = trained();
    let out = folder.arg("inspected");
    let inspect = |args: &[&str], code| failure("inspect", &[&["--model", &run, "--out", &out], args].concat(), code);
    assert!(inspect(&["--prompt", "the", "--corrupt", "1..9"], 1).contains("3 tokens"));
    assert!(inspect(&["--prompt", "the", "--corrupt", "2..2"], 1).contains("2..2"));
    assert!(inspect(&["--prompt", "the", "--corrupt", "two"], 2).contains("2..5"));
    assert!(inspect(&["--prompt", ""], 1).contains("prompt is empty"));
    assert!(inspect(&["--prompt", &"the ".repeat(50)], 1).contains("at most 128"));
    assert!(inspect(&["--prompt", "THE"], 1).contains("vocabulary"));
    assert!(inspect(&["--noise", "0"], 1).contains("noise"));
    assert!(inspect(&["--target", "x"], 2).contains("--prompt"));
    let speed = |args: &[&str], code| failure("speed", args, code);
    assert!(speed(&[], 2).contains("--model"));
    assert!(speed(&["--model", &run, "--tokens", "0"], 2).contains("positive"));
    assert!(speed(&["--model", &run, "--dtype", "int4"], 2).contains("bf16-products or int8"));
    assert!(speed(&["--preset", "rwkv4_20b"], 2).contains("rwkv4_14b"));
    assert!(speed(&["--model", "missing.pth"], 1).contains("missing.pth"));
}
