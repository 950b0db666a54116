//! `train` on generated tasks: every one by its name, resumed, plotted, and what is wrong told.

use crate::support::{Folder, failure, success};
use rwkv_train::data::tasks::Task;
use serde_json::Value;
use std::path::Path;

const SMALL: [&str; 12] = [
    "--n-layer",
    "2",
    "--n-embd",
    "32",
    "--batch-size",
    "4",
    "--warmup-steps",
    "2",
    "--lr-init",
    "1e-2",
    "--val-windows",
    "40",
];

/// The report of a run of `train` into `out`.
fn train(folder: &Folder, out: &str, args: &[&str]) -> Value {
    let out = folder.arg(out);
    let rest = ["--out", &out, "--json"];
    serde_json::from_str(&success("train", &[&SMALL[..], &rest, args].concat())).expect("JSON and nothing else")
}

fn rows(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_task_trains_by_its_name() {
    let folder = Folder::new();
    for name in Task::NAMES {
        let report = train(&folder, name, &["--task", name, "--steps", "4"]);
        for key in ["val_accuracy", "val_exact"] {
            let share = report[key].as_f64().expect("measured");
            assert!((0.0..=1.0).contains(&share), "{name}: {report}");
            assert_eq!(rows(&folder.at(name)).last().expect("a row")[key], report[key], "{name}");
        }
        assert!(!folder.at(name).join("tokenizer.json").exists());
        let task: Task = name.parse().expect("a name");
        let weights = folder.at(name).join("model.safetensors");
        let sizes = rwkv_core::checkpoint::read_config(&weights).expect("a checkpoint");
        assert_eq!(sizes.vocab_size, task.generator().vocab_size());
    }
    // Rows of text say nothing about answers.
    let text = train(&folder, "text", &["--text", &folder.arg("text.txt"), "--steps", "4", "--ctx-len", "16"]);
    assert!(text.get("val_accuracy").is_none() && rows(&folder.at("text"))[0].get("val_exact").is_none(), "{text}");
}

#[test]
fn a_run_on_a_task_goes_on_from_its_checkpoint_and_is_plotted() {
    let folder = Folder::new();
    let every = ["--log-every", "2", "--val-every", "4", "--save-every", "4"];
    let task = ["--set", "data.task={ mqar = { pairs = 3, keys = 9, values = 9 } }", "--ctx-len", "16", "--steps", "8"];
    train(&folder, "run", &[&every[..], &task].concat());
    let run = folder.at("run");
    let config = std::fs::read_to_string(run.join("config.toml")).expect("config");
    assert!(config.contains("[data.task.mqar]\npairs = 3\n"), "{config}");
    let last = |at: usize| {
        let row = rows(&run).swap_remove(at);
        ["step", "loss", "val_loss", "val_accuracy", "val_exact", "grad_norm"].map(|key| row[key].clone())
    };
    let whole = last(3);
    std::fs::remove_dir_all(run.join("step-000008")).expect("the last checkpoint");
    success("train", &["--resume", &folder.arg("run")]);
    assert_eq!(last(3), whole);
    let picture = folder.arg("accuracy.svg");
    success("plot", &[&folder.arg("run"), "--y", "val_accuracy", "--out", &picture]);
    assert!(std::fs::read_to_string(&picture).expect("a picture").contains("share of right answers"));
}

#[test]
fn what_is_wrong_with_a_task_is_told() {
    let folder = Folder::new();
    let out = folder.arg("x");
    let said = failure("train", &["--task", "mqrr", "--out", &out], 2);
    assert!(said.contains("mqrr") && said.contains("selective-copying"), "{said}");
    let said = failure("train", &["--task", "mqar", "--ctx-len", "31", "--out", &out], 1);
    assert!(said.contains("ctx_len") && said.contains("32"), "{said}");
    let said = failure("train", &["--task", "mqar", "--text", &folder.arg("text.txt"), "--out", &out], 1);
    assert!(said.contains("exclude"), "{said}");
    let said = failure("train", &["--set", "data.task={ mqar = { keys = 3 } }", "--out", &out], 1);
    assert!(said.contains("mqar.keys") && said.contains("from 8"), "{said}");
    let said = failure("train", &["--task", "mqar", "--set", "model.vocab_size=100", "--out", &out], 1);
    assert!(said.contains("vocab_size") && said.contains("129"), "{said}");
    assert!(!folder.at("x").exists());
}
