//! The programs as a person runs them: results, and one clear sentence for every wrong input.

use crate::support::{Folder, failure, program, success};

#[test]
fn train_then_logits_then_generate() {
    let folder = Folder::new();
    let printed: serde_json::Value = serde_json::from_str(&folder.train(&[])).expect("JSON and nothing else");
    assert!(printed["val_loss"].as_f64().expect("a number") < 3.0, "{printed}");
    for file in
        ["config.toml", "run.json", "tokenizer.json", "metrics.jsonl", "model.safetensors", "loss.svg", "step-000010"]
    {
        assert!(folder.at("run").join(file).exists(), "{file}");
    }
    let rows = std::fs::read_to_string(folder.at("run").join("metrics.jsonl")).expect("metrics");
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).expect("a JSON row");
        for key in ["step", "loss", "val_loss", "tokens_per_second", "lr", "grad_norm"] {
            assert!(row.get(key).is_some(), "{key} in {row}");
        }
    }

    let run = folder.arg("run");
    let logits = |mode: &str, all: bool| -> serde_json::Value {
        let mut args = vec!["--model", &run, "--tokens", "1,2,3", "--mode", mode, "--json"];
        if all {
            args.push("--all");
        }
        serde_json::from_str::<serde_json::Value>(&success("logits", &args)).expect("JSON")["logits"].clone()
    };
    let (parallel, recurrent, all) = (logits("parallel", false), logits("recurrent", false), logits("parallel", true));
    assert_eq!(all.as_array().expect("rows").len(), 3);
    assert_eq!(all[2], parallel);
    for (x, y) in parallel.as_array().expect("a row").iter().zip(recurrent.as_array().expect("a row")) {
        assert!((x.as_f64().expect("number") - y.as_f64().expect("number")).abs() < 1e-4);
    }

    let generate = |extra: &[&str]| {
        success("generate", &[&["--model", &run, "--prompt", "the ", "--tokens", "30"], extra].concat())
    };
    assert!(generate(&[]).starts_with("the "));
    assert_eq!(generate(&["--seed", "3"]), generate(&["--seed", "3"]));
    assert_ne!(generate(&["--seed", "3", "--top-p", "1"]), generate(&["--seed", "4", "--top-p", "1"]));
    assert_eq!(generate(&["--stream"]), generate(&[]));
    let json: serde_json::Value = serde_json::from_str(&generate(&["--json"])).expect("JSON");
    assert_eq!(json["tokens"].as_array().expect("tokens").len(), 30);
}

#[test]
fn a_saved_state_continues_where_the_text_ended() {
    let folder = Folder::new();
    folder.train(&[]);
    let (run, state) = (folder.arg("run"), folder.arg("state.safetensors"));
    let greedy = |args: &[&str]| success("generate", &[&["--model", &run, "--temperature", "0"], args].concat());
    let whole = greedy(&["--prompt", "the quick brown", "--tokens", "20"]);
    greedy(&["--prompt", "the quick ", "--tokens", "0", "--save-state", &state]);
    let rest = greedy(&["--prompt", "brown", "--tokens", "20", "--load-state", &state]);
    assert_eq!(whole.trim_end(), format!("the quick {}", rest.trim_end()));
}

#[test]
fn resuming_goes_on_and_configuration_files_work() {
    let folder = Folder::new();
    let first: serde_json::Value = serde_json::from_str(&folder.train(&[])).expect("JSON");
    let run = folder.at("run");
    std::fs::remove_dir_all(run.join("step-000020")).expect("the newest checkpoint");
    let resumed = success("train", &["--resume", run.to_str().expect("UTF-8"), "--json"]);
    let resumed: serde_json::Value = serde_json::from_str(&resumed).expect("JSON");
    assert_eq!((&resumed["loss"], &resumed["val_loss"]), (&first["loss"], &first["val_loss"]));

    let again = folder.arg("again");
    let config = run.join("config.toml");
    let config = config.to_str().expect("UTF-8");
    let repeated: serde_json::Value =
        serde_json::from_str(&success("train", &["--config", config, "--out", &again, "--json"])).expect("JSON");
    assert_eq!(repeated["loss"], first["loss"]);
}

#[test]
fn help_explains_and_unknown_flags_are_refused() {
    for name in ["quickstart", "train", "generate", "chat", "logits"] {
        let help = success(name, &["--help"]);
        assert!(help.contains("--backend") && help.contains("--seed"), "{name}: {help}");
        let said = failure(name, &["--no-such-flag"], 2);
        assert!(said.contains("--no-such-flag"), "{said}");
        let said = failure(name, &["--backend", "abacus"], 2);
        assert!(said.contains("abacus") && said.contains("flex"), "{said}");
    }
}

#[test]
fn train_refuses_bad_input_in_one_sentence() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("out"));
    let fails = |extra: &[&str]| failure("train", &[&["--out", &out], extra].concat(), 1);
    assert!(fails(&[]).contains("--text"));
    assert!(fails(&["--text", "/no/such/text.txt"]).contains("/no/such/text.txt"));
    assert!(fails(&["--text", &text, "--ctx-len", "5000"]).contains("ctx_len 5000"));
    for (flag, field) in [
        ("--n-layer", "n_layer"),
        ("--n-embd", "n_embd"),
        ("--ctx-len", "ctx_len"),
        ("--batch-size", "batch_size"),
        ("--steps", "steps"),
    ] {
        assert!(fails(&["--text", &text, flag, "0"]).contains(field));
    }
    std::fs::write(folder.at("val.txt"), "the quick brown fox ж").expect("written");
    let said = fails(&["--text", &text, "--val-text", &folder.arg("val.txt")]);
    assert!(said.contains("'ж'") && said.contains("val.txt"), "{said}");
    std::fs::write(folder.at("bytes.txt"), [0xff, 0xfe, 0x00]).expect("written");
    assert!(fails(&["--text", &folder.arg("bytes.txt")]).contains("bytes.txt"));
    let said = failure("train", &["--text", &text, "--out", "/proc/no/such/folder", "--steps", "1"], 1);
    assert!(said.contains("/proc/no/such/folder"), "{said}");
    std::fs::write(folder.at("bad.toml"), "[train]\nstepz = 3\n").expect("written");
    assert!(fails(&["--config", &folder.arg("bad.toml")]).contains("stepz"));
    assert!(failure("train", &["--resume", &folder.arg("nothing")], 1).contains("nothing"));
    assert!(failure("train", &["--resume", &out, "--steps", "3"], 2).contains("--resume"));
    let said = failure("train", &["--text", &text, "--lr-schedule", "zigzag"], 2);
    assert!(said.contains("zigzag") && said.contains("cosine"), "{said}");
}

#[test]
fn generate_and_logits_refuse_bad_input_in_one_sentence() {
    let folder = Folder::new();
    folder.train(&[]);
    let run = folder.arg("run");
    let generate = |extra: &[&str]| failure("generate", &[&["--model", &run], extra].concat(), 1);
    assert!(generate(&["--prompt", "the ж"]).contains("'ж'"));
    assert!(generate(&["--prompt", ""]).contains("prompt"));
    assert!(generate(&["--prompt", "the", "--temperature=-1"]).contains("temperature"));
    assert!(generate(&["--prompt", "the", "--top-p", "1.5"]).contains("top_p"));
    assert!(generate(&["--prompt", "the", "--load-state", "/no/such/state"]).contains("/no/such/state"));
    assert!(generate(&["--prompt", "the", "--save-state", "/proc/state"]).contains("/proc/state"));
    assert!(failure("generate", &["--model", "/no/such/model", "--prompt", "x"], 1).contains("/no/such/model"));
    let said = failure("logits", &["--model", &run, "--tokens", "1,999"], 1);
    assert!(said.contains("999") && said.contains("position 1"), "{said}");
    let text = folder.arg("text.txt");
    assert!(failure("logits", &["--model", &text, "--tokens", "1"], 1).contains("text.txt"));
    assert!(failure("logits", &["--model", &run, "--tokens", "one"], 2).contains("one"));
}

#[test]
fn a_backend_that_is_not_compiled_in_says_which_feature_brings_it() {
    if cfg!(feature = "cuda") {
        eprintln!("SKIPPED: this build has every backend");
        return;
    }
    let said = failure("logits", &["--model", "x", "--tokens", "1", "--backend", "cuda"], 1);
    assert!(said.contains("--features cuda"), "{said}");
}

/// The quickstart itself, shortened: its full length is a minute.
#[test]
fn the_quickstart_trains_agrees_and_writes() {
    let folder = Folder::new();
    let printed = success("quickstart", &["--steps", "40", "--out", &folder.arg("quickstart")]);
    assert!(printed.contains("training loss") && printed.contains("words of the corpus"), "{printed}");
    let number_after = |text: &str, words: &str| -> f64 {
        let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("{words} in {text}"));
        let number = rest.split_whitespace().next().expect("a number").trim_end_matches('.');
        number.parse().unwrap_or_else(|_| panic!("{number} after {words}"))
    };
    assert!(number_after(&printed, "differ by at most ") < 1e-4);
    let fell = printed.split("held-out loss fell from ").nth(1).expect("the held-out loss");
    let after = number_after(fell, " to ");
    assert!(after < number_after(&printed, "held-out loss fell from "), "{printed}");
    assert!(success("generate", &["--model", &folder.arg("quickstart"), "--prompt", "One "]).starts_with("One "));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_stdout_is_one_sentence() {
    let folder = Folder::new();
    folder.train(&[]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = program("logits")
        .args(["--model", &folder.arg("run"), "--tokens", "1", "--json"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
}
