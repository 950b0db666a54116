//! How well a model predicts texts.

use crate::support::{Folder, failure, success};
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn texts_are_scored_whole_and_in_windows() {
    let folder = Folder::new();
    folder.train(&[]);
    std::fs::write(folder.at("other.txt"), "the lazy dog jumps over the quick fox; ").expect("written");
    let (run, text, other) = (folder.arg("run"), folder.arg("text.txt"), folder.arg("other.txt"));
    let out = folder.arg("out");
    let score = |extra: &[&str]| -> Value {
        let printed = success("perplexity", &[&["--model", &run, "--json"], extra].concat());
        serde_json::from_str(&printed).expect("JSON and nothing else")
    };
    let both = score(&[&text, &other, "--out", &out]);
    let (first, second) = (&both["documents"][0], &both["documents"][1]);
    // A token is a character here, and a character a byte; the first of each text is not predicted.
    let length = std::fs::metadata(folder.at("text.txt")).expect("the text").len() - 1;
    assert_eq!((&first["predicted_tokens"], &first["bytes"]), (&Value::from(length), &Value::from(length)));
    assert_eq!(second["bytes"], 38);
    assert_eq!(second["words"], 9, "eight, and an empty one after the last space");
    assert!((number(&first["bits_per_byte"]) - number(&first["loss"]) / 2f64.ln()).abs() < 1e-9);
    let sum = number(&first["nll_nats"]) + number(&second["nll_nats"]);
    assert!((number(&both["total"]["nll_nats"]) - sum).abs() < 1e-6 && number(&both["total"]["loss_stderr"]) > 0.0);
    for file in ["perplexity.json", "perplexity.md", "perplexity.html"] {
        assert!(folder.at("out").join(file).exists(), "{file}");
    }
    let alone = score(&[&other, "--chunk", "5"]);
    assert!((number(&alone["total"]["loss"]) - number(&second["loss"])).abs() < 1e-5);
    assert_eq!(alone["total"]["loss_stderr"], Value::Null);
    let windows = score(&[&other, "--ctx-len", "8", "--stride", "2"]);
    assert_eq!(windows["total"]["predicted_tokens"], 38, "every token once");
    assert_ne!(windows["total"]["nll_nats"], alone["total"]["nll_nats"]);
    assert_eq!(windows["settings"]["context"]["windows"]["stride"], 2);

    std::fs::write(folder.at("texts.jsonl"), "{\"t\": \"the fox\"}\n\n{\"t\": \"the dog\"}\n").expect("written");
    let lines = score(&[&folder.arg("texts.jsonl"), "--field", "t"]);
    assert!(lines["documents"][1]["name"].as_str().expect("a name").ends_with("texts.jsonl:3"));
    let said = success("perplexity", &["--model", &run, &text, &other]);
    assert_eq!((said.lines().count(), said.matches("bits/byte").count()), (3, 3), "{said}");
}

#[test]
fn bad_input_is_one_sentence() {
    let folder = Folder::new();
    folder.train(&[]);
    let (run, text) = (folder.arg("run"), folder.arg("text.txt"));
    let fails = |args: &[&str]| failure("perplexity", &[&["--model", &run], args].concat(), 1);
    assert!(fails(&["/no/such.txt"]).contains("/no/such.txt"));
    assert!(failure("perplexity", &["--model", "/no/such", &text], 1).contains("/no/such"));
    std::fs::write(folder.at("empty.txt"), "").expect("written");
    assert!(fails(&[&folder.arg("empty.txt")]).contains("empty.txt holds no text"));
    std::fs::write(folder.at("latin.txt"), b"the \xe9").expect("written");
    assert!(fails(&[&folder.arg("latin.txt")]).contains("latin.txt is not UTF-8: byte 5"));
    std::fs::write(folder.at("odd.txt"), "the Ω").expect("written");
    let said = fails(&[&folder.arg("odd.txt")]);
    assert!(said.contains("odd.txt") && said.contains('Ω'), "{said}");
    std::fs::write(folder.at("bad.jsonl"), "{\"text\": \"the\"}\n{\"text\": 1}\n").expect("written");
    let said = fails(&[&folder.arg("bad.jsonl")]);
    assert!(said.contains("bad.jsonl, line 2"), "{said}");
    assert!(fails(&[&text, "--ctx-len", "8", "--stride", "8"]).contains("stride"));
    assert!(fails(&[&text, "--chunk", "0"]).contains("chunk"));
    assert!(failure("perplexity", &["--model", &run, &text, "--stride", "8"], 2).contains("--ctx-len"));
    assert!(failure("perplexity", &["--model", &run], 2).contains("FILE"));
}
