//! What `train` can learn from: token files, instructions, and the weights of other models.

use crate::support::{Folder, failure, success};
use serde_json::Value;
use std::path::Path;

/// The report of a run of `train` into `out`, with a small model unless another is named.
fn train(folder: &Folder, out: &str, args: &[&str]) -> Value {
    let out = folder.arg(out);
    let small = ["--n-layer", "2", "--n-embd", "32", "--steps", "6", "--batch-size", "2", "--warmup-steps", "1"];
    let rest = ["--lr-init", "1e-2", "--log-every", "1", "--out", &out, "--json"];
    serde_json::from_str(&success("train", &[&small[..], &rest, args].concat())).expect("JSON and nothing else")
}

/// The losses of a run, as they are written.
fn losses(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["loss"].to_string()).collect()
}

/// A token file of the folder's text, as bytes.
fn tokens(folder: &Folder, name: &str, text: &str) -> String {
    let (input, out) = (folder.arg(&format!("{name}.txt")), folder.arg(name));
    std::fs::write(&input, text).expect("written");
    success("tokenize", &["--input", &input, "--tokenizer", "byte", "--split-lines", "--out", &out]);
    out
}

#[test]
fn a_token_file_trains_with_its_orders_and_documents() {
    let folder = Folder::new();
    let file = tokens(&folder, "tokens", &"the quick brown fox\njumps over the lazy dog\n".repeat(400));
    let val = tokens(&folder, "val", &"the lazy fox sleeps\n".repeat(20));
    let base = ["--tokens", &file, "--tokenizer", "byte", "--ctx-len", "16"];
    let run = |out: &str, more: &[&str]| train(&folder, out, &[&base[..], more].concat());
    let plain = run("plain", &[]);
    assert!(plain["val_loss"].as_f64().expect("a number") < 5.6, "{plain}");
    let of = |out: &str| losses(&folder.at(out));
    for (out, change) in [
        ("shuffled", &["--order", "shuffled"][..]),
        ("prime", &["--order", "magic_prime"]),
        ("resets", &["--set", "data.document_reset=true"]),
    ] {
        run(out, change);
        assert_ne!(of(out), of("plain"), "{out}");
    }
    let other = run("val-run", &["--val-tokens", &val]);
    assert_ne!(other["val_loss"], plain["val_loss"]);
    success("train", &["--resume", &folder.arg("plain")]);
    assert!(folder.at("plain").join("tokenizer.json").exists());

    let said = failure("train", &["--tokens", &file, "--out", &folder.arg("x")], 1);
    assert!(said.contains("vocab_size"), "{said}");
    let small = ["--tokens", &file, "--set", "model.vocab_size=100", "--ctx-len", "16", "--out", &folder.arg("x")];
    let said = failure("train", &small, 1);
    assert!(said.contains("100") && said.contains("tokens"), "{said}");
    let short = tokens(&folder, "short", &"the lazy dog\n".repeat(30));
    let out = folder.arg("x");
    let prime = ["--tokens", &short, "--tokenizer", "byte", "--ctx-len", "16", "--order", "magic_prime", "--out", &out];
    assert!(failure("train", &prime, 1).contains("magic-prime"));
    let said = failure("train", &["--tokens", &file, "--text", &folder.arg("text.txt"), "--out", &folder.arg("x")], 1);
    assert!(said.contains("exclude"), "{said}");
}

#[test]
fn a_run_may_start_from_other_weights_or_take_over_from_a_smaller_model() {
    let folder = Folder::new();
    let text = folder.arg("text.txt");
    train(&folder, "first", &["--text", &text, "--ctx-len", "16"]);
    let first = folder.arg("first");
    // Sizes are the checkpoint's, whatever the configuration says.
    let other = ["--set", "model.dim_ffn=64", "--start-from", &first];
    let second = train(&folder, "second", &[&["--text", &text, "--ctx-len", "16"][..], &other].concat());
    let config = std::fs::read_to_string(folder.at("second").join("config.toml")).expect("config");
    assert!(config.contains("n_layer = 2") && config.contains("dim_ffn = 128"), "{config}");
    let begins = |out: &str| losses(&folder.at(out))[0].parse::<f64>().expect("a number");
    assert!(begins("second") < begins("first") - 0.1, "it goes on from what was learnt: {second}");

    // A fresh model that took the smaller one's tensors begins elsewhere than one that did not.
    let larger = ["--text", &text, "--ctx-len", "16", "--set", "model.dim_ffn=160"];
    train(&folder, "fresh", &larger);
    let transfer = format!("model.transfer_from={first}");
    train(&folder, "larger", &[&larger[..], &["--set", &transfer]].concat());
    assert_ne!(losses(&folder.at("larger")), losses(&folder.at("fresh")));
    let out = folder.arg("x");
    let said = failure("train", &["--text", &text, "--start-from", "/no/such/model", "--out", &out], 1);
    assert!(said.contains("/no/such/model"), "{said}");
}

/// The README's way: a model, instructions, adapters or a state, and the programs that use them.
#[test]
fn instructions_tune_adapters_and_states_that_the_programs_take() {
    let folder = Folder::new();
    let text = folder.arg("text.txt");
    std::fs::write(&text, "User: what is it?\n\nAssistant: it is a dog.\n\nBob: hi\n\nAlice: hi\n\n".repeat(40))
        .expect("written");
    train(&folder, "base", &["--text", &text, "--ctx-len", "32", "--tokenizer", "byte"]);
    let base = folder.arg("base");
    let examples = folder.arg("my.jsonl");
    let alpaca = r#"{"instruction": "what is it?", "input": "", "output": "it is a cat."}"#;
    let share = r#"{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}"#;
    std::fs::write(&examples, format!("{alpaca}\n{share}\n").repeat(10)).expect("written");
    let tune = |out: &str, more: &[&str]| {
        let from = ["--start-from", &base, "--instructions", &examples, "--tokenizer", "byte", "--ctx-len", "64"];
        train(&folder, out, &[&from[..], more].concat())
    };
    let world = ["--set", "data.prompt=world"];
    let full = tune("full", &world);
    assert_eq!(full["num_trained"], full["num_params"]);
    tune("raven", &["--set", "data.prompt=raven"]);
    assert_ne!(losses(&folder.at("raven")), losses(&folder.at("full")), "the prompt is part of what is read");
    let lora = tune("lora", &[&world[..], &["--method", "lora", "--set", "tune.lora_rank=2"]].concat());
    let state = tune("state", &[&world[..], &["--method", "state"]].concat());
    for tuned in [&lora, &state] {
        let of = |key: &str| tuned[key].as_u64().expect("a number");
        assert!(of("num_trained") > 0 && of("num_trained") * 5 < of("num_params"), "{tuned}");
    }
    for run in ["lora", "state"] {
        let resumed = success("train", &["--resume", &folder.arg(run), "--json"]);
        assert!(resumed.contains("\"steps\":6"), "{resumed}");
    }
    let (adapter, tuned) = (folder.arg("lora/lora.safetensors"), folder.arg("state/state.safetensors"));
    let generate = |more: &[&str]| {
        let args = ["--model", &base, "--prompt", "User: what is it?\n\nAssistant:", "--tokens", "12", "--json"];
        let printed = success("generate", &[&args[..], more].concat());
        serde_json::from_str::<Value>(&printed).expect("JSON")
    };
    let plain = generate(&[]);
    assert_eq!(generate(&["--lora", &adapter])["tokens"].as_array().expect("tokens").len(), 12);
    assert_eq!(generate(&["--load-state", &tuned])["tokens"].as_array().expect("tokens").len(), 12);
    let merged = folder.arg("merged.safetensors");
    success("convert", &["--model", &base, "--lora", &adapter, "--out", &merged]);
    let logits = |args: &[&str]| success("logits", &[&["--tokens", "85,115", "--json"], args].concat());
    let (unmerged, base_logits) = (logits(&["--model", &base, "--lora", &adapter]), logits(&["--model", &base]));
    assert_eq!(logits(&["--model", &merged]), unmerged);
    assert_ne!(unmerged, base_logits, "{plain}");
}
