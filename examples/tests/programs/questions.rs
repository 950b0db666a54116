//! The paper's questions: as good as a Transformer, at every size, with longer context, and how fast.

use crate::support;
use crate::support::{Folder, failure, success};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON and nothing else")
}

/// Every file of a report is there, and the page needs no other.
fn has_report(folder: &Folder, name: &str, charts: &[&str]) {
    let read = |ending: &str| std::fs::read_to_string(folder.at(&format!("out/{name}{ending}"))).expect("written");
    let (markdown, html) = (read(".md"), read(".html"));
    json(&read(".json"));
    for chart in charts {
        assert!(read(&format!("-{chart}.svg")).contains("<svg") && markdown.contains(&format!("{name}-{chart}.svg")));
    }
    assert!(html.matches("<svg").count() >= charts.len() && !html.contains("src=\"http"));
}

#[test]
fn two_families_are_trained_on_the_same_tokens_and_compared() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("out"));
    let args = |more: &[&'static str]| {
        let shared = ["--text", &text, "--out", &out, "--sizes", "1x16,2x32", "--head-size", "8", "--ctx-len", "16"];
        let shared = shared.map(str::to_owned).into_iter().chain(more.iter().map(ToString::to_string));
        shared
            .chain(["--batch-size", "4", "--steps", "8", "--warmup-steps", "2"].map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let scaling = |more: &[&'static str]| {
        let args = args(more);
        json(&success("scaling", &args.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let refused = |more: &[&'static str], code: i32| {
        let output = support::program("scaling").args(args(more)).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && output.stdout.is_empty() && !said.contains("panicked"), "{said}");
        said
    };
    let first = scaling(&["--json", "--seeds", "2", "--set-transformer", "train.lr_init=2e-3"]);
    let runs = first["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2 * 2 * 2);
    for pair in runs.chunks(4) {
        let params = |run: &Value| run["params"].as_f64().expect("a count");
        assert!((params(&pair[0]) / params(&pair[2]) - 1.0).abs() < 0.02, "equal at a size: {pair:?}");
        assert!(pair.iter().all(|run| run["tokens"] == 8 * 4 * 16));
        // A Transformer's products with the tokens before count.
        assert!(pair[2]["flops"].as_f64() > pair[0]["flops"].as_f64().map(|flops| 0.9 * flops));
    }
    let loss = |result: &Value, run: usize| result["runs"][run]["loss"].as_f64().expect("a loss");
    assert!(loss(&first, 0) != loss(&first, 1), "seeds differ");
    has_report(&folder, "scaling", &["loss-params", "loss-flops"]);
    // What is done is not done again.
    std::fs::remove_dir_all(folder.at("out/transformer-1x16-seed0")).expect("removed");
    let again = scaling(&["--json", "--seeds", "2", "--set-transformer", "train.lr_init=2e-3"]);
    assert_eq!(again["runs"].as_array().expect("runs").len(), 8);
    assert!((0..8).all(|run| loss(&again, run) == loss(&first, run)), "the same to the last digit");
    // Another recipe is not mixed in.
    let said = refused(&["--seeds", "2", "--set-transformer", "train.lr_init=3e-3"], 1);
    assert!(said.contains("another configuration") && said.contains("transformer-1x16-seed0"), "{said}");
    assert!(refused(&["--sizes", "12"], 2).contains("4x128"));
    assert!(refused(&["--set-rwkv", "train.stepz=3"], 1).contains("steps"));
    assert!(refused(&["--seeds", "0"], 2).contains("--seeds"));
    assert!(refused(&["--sizes", "1x8,1x8"], 1).contains("--sizes"));
}

#[test]
fn longer_contexts_are_compared_on_the_same_targets() {
    let folder = Folder::new();
    folder.train(&[]);
    let (model, text, out) = (folder.arg("run"), folder.arg("text.txt"), folder.arg("out"));
    let args = |more: &[&'static str]| {
        let shared = ["--model", &model, "--text", &text, "--out", &out, "--targets", "4"].map(str::to_owned);
        shared.into_iter().chain(more.iter().map(ToString::to_string)).collect::<Vec<_>>()
    };
    let run =
        |more: &[&'static str]| success("context_length", &args(more).iter().map(String::as_str).collect::<Vec<_>>());
    let refused = |more: &[&'static str], code: i32| {
        failure("context_length", &args(more).iter().map(String::as_str).collect::<Vec<_>>(), code)
    };
    let result = json(&run(&["--lengths", "4,16,64", "--windows", "20", "--json"]));
    let model = &result["models"][0];
    assert_eq!(model["label"], "run");
    let lengths = model["by_length"].as_array().expect("lengths");
    assert_eq!(lengths.iter().map(|at| at["ctx_len"].as_u64()).collect::<Vec<_>>(), [4, 16, 64].map(Some));
    assert_eq!(model["by_position"][0]["from"], 1);
    has_report(&folder, "context_length", &["length", "position"]);
    assert!(run(&["--lengths", "4,16", "--labels", "mine"]).contains("mine: "));
    assert!(refused(&["--lengths", "16,4"], 1).contains("rising"));
    assert!(refused(&["--lengths", "100000"], 1).contains("text.txt"));
    assert!(refused(&["--labels", "a,b"], 1).contains("2 models"));
    assert!(refused(&["--last", "0"], 2).contains("share"));
    std::fs::write(folder.at("other.txt"), "Ω".repeat(500)).expect("written");
    let (run, other) = (folder.arg("run"), folder.arg("other.txt"));
    assert!(failure("context_length", &["--model", &run, "--text", &other], 1).contains("other.txt"));
}

#[test]
fn time_and_memory_are_measured_along_the_text() {
    let folder = Folder::new();
    let out = folder.arg("out");
    let curves = ["--curves", &out, "--tokens", "12", "--repeats", "2", "--json"];
    let result = json(&success("speed", &[&["--size", "2x16", "--vocab-size", "40"][..], &curves].concat()));
    let [rwkv, transformer] = [0, 1].map(|model| &result["models"][model]);
    let state = |model: &Value| {
        let points = model["writing"].as_array().expect("points");
        points.iter().map(|at| at["state_bytes"].as_u64().expect("bytes")).collect::<Vec<_>>()
    };
    assert!(state(rwkv).iter().all(|&bytes| bytes == 4 * 2 * 5 * 16));
    assert!(state(transformer).windows(2).all(|pair| pair[1] > pair[0]));
    let params = |model: &Value| model["params"].as_f64().expect("a count");
    assert!((params(rwkv) / params(transformer) - 1.0).abs() < 0.02);
    assert_eq!(rwkv["reading"].as_array().expect("prompts").len(), 5);
    has_report(&folder, "speed", &["time", "state", "reading"]);
    // A model from a file, too; and what is wrong is said once, by the process that knows it.
    folder.train(&[]);
    let model = folder.arg("run");
    success("speed", &[&["--model", &model][..], &curves].concat());
    let missing = folder.arg("missing.pth");
    let output =
        support::program("speed").args([&["--model", &missing][..], &curves].concat()).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("missing.pth") && output.stdout.is_empty(), "{said}");
    assert!(failure("speed", &["--size", "2x65", "--vocab-size", "40", "--curves", &out], 1).contains("n_head"));
    assert!(failure("speed", &["--size", "2by16"], 2).contains("12x768"));
    assert!(failure("speed", &["--tokens", "4"], 2).contains("--model"));
}
