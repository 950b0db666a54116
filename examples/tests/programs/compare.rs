//! Evaluations side by side.

use crate::support::{Folder, failure, success};
use serde_json::{Value, json};

/// A report of one task, as `evaluate --out` writes it.
fn report(folder: &Folder, file: &str, name: &str, acc: f64) -> String {
    let report = json!({
        "results": {"piqa": {"acc": acc, "acc_stderr": 0.01}},
        "versions": {"piqa": 1}, "n-shot": {"piqa": 0},
        "n-samples": {"piqa": {"original": 1838, "effective": 1838}},
        "higher_is_better": {"piqa": {"acc": true}},
        "model": {"name": name, "fingerprint": "ab", "parameters": 169_000_000, "config": {}, "dtype": "f32",
                  "tokenizer": "20B_tokenizer.json"},
        "settings": {"context_start": "reference", "limit": null, "batch_size": 8, "max_length": 1024,
                     "prefix_sharing": true, "seed": 0, "data": {"piqa": [["piqa.jsonl", "cd"]]}},
        "speed": {"seconds": 1.0, "samples": 1838, "requests": 3676, "tokens_read": 100, "tokens_asked": 100},
        "provenance": {"version": "0.1.0", "commit": null, "backend": "flex", "command": ["evaluate"], "unix_time": 1}
    });
    std::fs::write(folder.at(file), report.to_string()).expect("written");
    folder.arg(file)
}

#[test]
fn two_reports_and_the_paper() {
    let folder = Folder::new();
    let (one, two) = (report(&folder, "a.json", "models/a", 0.6), report(&folder, "b.json", "models/b", 0.7));
    let out = folder.arg("out");
    let printed = success("compare", &[&one, &two, "--paper", "rwkv-4", "--out", &out, "--json"]);
    let printed: Value = serde_json::from_str(&printed).expect("JSON and nothing else");
    assert_eq!(printed["models"][1]["label"], "b");
    assert!((printed["rows"][0]["differences"][1]["value"].as_f64().expect("a number") - 0.1).abs() < 1e-12);
    assert_eq!(printed["rows"][0]["scores"][1]["best"], true);
    assert_eq!(printed["from_paper"][0]["paper"], "RWKV-4 0.17B");
    for file in ["comparison.json", "comparison.md", "comparison.html", "comparison-piqa-acc.svg"] {
        assert!(folder.at("out").join(file).exists(), "{file}");
    }
    let said = success("compare", &[&one, &two, "--labels", "x,y", "--out", &out]);
    assert!(said.contains("piqa") && said.contains("*0.7000"), "{said}");
    assert!(std::fs::read_to_string(folder.at("out/comparison.md")).expect("Markdown").contains("| x | y |"));
    success("compare", &[&one, "--paper", "--out", &out]);
}

#[test]
fn bad_input_is_one_sentence() {
    let folder = Folder::new();
    let (one, out) = (report(&folder, "a.json", "a", 0.6), folder.arg("out"));
    let fails = |args: &[&str]| failure("compare", &[args, &["--out", &out]].concat(), 1);
    assert!(fails(&["/no/such.json", &one]).contains("/no/such.json"));
    std::fs::write(folder.at("bad.json"), "{\"results\": {").expect("written");
    let said = fails(&[&one, &folder.arg("bad.json")]);
    assert!(said.contains("bad.json") && said.contains("line 1 column"), "{said}");
    std::fs::write(folder.at("other.json"), "{\"loss\": 1.5}").expect("written");
    let said = fails(&[&one, &folder.arg("other.json")]);
    assert!(said.contains("other.json") && said.contains("no report of an evaluation"), "{said}");
    assert!(fails(&[&one]).contains("reports"));
    let said = fails(&[&one, "--paper", "llama"]);
    assert!(said.contains("llama") && said.contains("RWKV-4 0.17B"), "{said}");
    assert!(fails(&[&one, &one, "--labels", "x"]).contains("--labels"));
    assert!(!folder.at("out").exists(), "nothing is written");
    std::fs::write(folder.at("file"), "").expect("written");
    let said = failure("compare", &[&one, &one, "--out", &folder.arg("file")], 1);
    assert!(said.contains("file"), "{said}");
    assert!(failure("compare", &["--out", &out], 2).contains("REPORT"));
    assert!(failure("compare", &[&one, &one], 2).contains("--out"));
}
