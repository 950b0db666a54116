//! Studies: variants × seeds, trained side by side, resumed, ranked and refused.

use crate::support;
use crate::support::{Folder, program};
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};

const BASE: &str = "
[base.model]
n_layer = 1
n_embd = 16
[base.train]
steps = 8
ctx_len = 16
batch_size = 4
warmup_steps = 2
lr_init = 1e-2
log_every = 2
val_every = 4
val_windows = 10
save_every = 2
";

/// A folder with a text, and the study that `rest` makes of the base on it.
struct Lab(Folder);

impl Lab {
    fn new(top: &str, rest: &str) -> Self {
        let lab = Self(Folder::new());
        lab.write(top, rest);
        lab
    }

    fn write(&self, top: &str, rest: &str) {
        let text = format!("{top}\n{BASE}\n[base.data]\ntext = {:?}\n{rest}", self.0.arg("text.txt"));
        std::fs::write(self.0.at("study.toml"), text).expect("written");
    }

    fn output(&self, args: &[&str]) -> Output {
        let (study, out) = (self.0.arg("study.toml"), self.0.arg("out"));
        let mut command = program("ablate");
        command.arg(study);
        if !args.contains(&"--out") {
            command.args(["--out", &out]);
        }
        command.args(args).output().expect("it starts")
    }

    /// The result, of a study that must succeed.
    fn run(&self, args: &[&str]) -> Value {
        let output = self.output(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
    }

    /// The one sentence of a study that must fail before it trains.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = said(&output);
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{said}");
        assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{said}");
        said
    }

    fn rows(&self, out: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.at(out).join("results.jsonl")).expect("results");
        text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    }

    fn losses(&self, out: &str) -> Vec<(String, u64, String)> {
        let row = |row: &Value| {
            assert_eq!(row["status"], "done", "{row}");
            let variant = row["variant"].as_str().expect("a name").to_owned();
            (variant, row["seed"].as_u64().expect("a seed"), row["val_loss"].to_string())
        };
        self.rows(out).iter().map(row).collect()
    }
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A number that changes when the file is written again.
fn written(path: &Path) -> std::time::SystemTime {
    std::fs::metadata(path).and_then(|file| file.modified()).expect("there")
}

const TWO: &str = "
[[variant]]
name = \"rwkv-4\"
[[variant]]
name = \"slow & steady\"
note = \"a tenth of the rate\"
train.lr_init = 1e-3
";

#[test]
fn a_study_runs_once_and_is_reported_whole() {
    let lab = Lab::new("question = \"Is the rate right?\"\nseeds = 2", TWO);
    let result = lab.run(&[]);
    let rows = lab.rows("out");
    let keys: Vec<(&str, u64)> =
        rows.iter().map(|row| (row["variant"].as_str().expect("name"), row["seed"].as_u64().expect("seed"))).collect();
    assert_eq!(keys, [("rwkv-4", 0), ("rwkv-4", 1), ("slow & steady", 0), ("slow & steady", 1)]);
    for row in &rows {
        assert_eq!((&row["status"], &row["steps"], &row["tokens"]), (&"done".into(), &8.into(), &(8 * 4 * 16).into()));
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {row}"));
        assert!(number("val_loss") >= number("best_val_loss") && number("best_val_loss") > 0.0);
        assert!(number("params") > 0.0 && number("seconds") > 0.0 && number("tokens_per_second") > 0.0);
        assert_eq!(row["state_bytes"], 4 * 5 * 16, "L = 1: 4·(2C + 3A) bytes");
    }
    assert_ne!(rows[0]["val_loss"], rows[1]["val_loss"], "seeds differ");
    let standings = result["standings"].as_array().expect("standings");
    assert_eq!(standings.len(), 2);
    let slow = standings.iter().find(|standing| standing["variant"] == "slow & steady").expect("there");
    let difference = |seed: usize| {
        let loss = |row: usize| rows[row]["val_loss"].as_f64().expect("a loss");
        loss(2 + seed) - loss(seed)
    };
    let mean = (difference(0) + difference(1)) / 2.0;
    assert!((slow["difference"].as_f64().expect("paired") - mean).abs() < 1e-12);
    assert_eq!(slow["test"]["df"], 1);
    assert_eq!(result["variants"][1]["changes"], serde_json::json!([["train.lr_init", "0.001"]]));
    let read = |name: &str| std::fs::read_to_string(lab.0.at("out").join(name)).expect("written");
    let (markdown, html) = (read("ablate.md"), read("ablate.html"));
    for words in
        ["# Is the rate right?", "rwkv-4 (baseline)", "slow &amp; steady", "a tenth of the rate", "ablate-curves.svg"]
    {
        assert!(markdown.contains(words), "{words} is missing in {markdown}");
    }
    assert!(html.matches("<svg").count() == 2 && read("ablate-ranking.svg").contains("<svg"));
    assert_eq!(serde_json::from_str::<Value>(&read("ablate.json")).expect("JSON")["verdict"], result["verdict"]);

    // What is done is not done again, whatever else changes about the report.
    let metrics = lab.0.at("out/runs/slow___steady-seed1/metrics.jsonl");
    let before = written(&metrics);
    let again = lab.run(&["--baseline", "slow & steady"]);
    assert_eq!(written(&metrics), before);
    assert_eq!((&again["rows"], &again["baseline"]), (&result["rows"], &"slow & steady".into()));
    // A seed more is trained beside those that are there.
    assert_eq!(lab.run(&["--seeds", "3"])["rows"].as_array().map(Vec::len), Some(6));
    assert_eq!(written(&metrics), before);
    // Another configuration is not mixed in.
    let said = lab.refused(&["--set", "train.lr_final=2e-4"]);
    assert!(said.contains("another configuration") && said.contains("rwkv-4-seed0"), "{said}");
    assert_eq!(written(&metrics), before);
}

#[test]
fn how_many_run_at_once_changes_no_number() {
    let lab = Lab::new("seeds = [3, 5]", TWO);
    let (one, two) = (lab.0.arg("one"), lab.0.arg("two"));
    // Wide enough for products and kernels that take several threads.
    let wide = ["--set", "model.n_embd=128", "--set", "train.ctx_len=128", "--set", "train.steps=4"];
    lab.run(&[&wide[..], &["--jobs", "1", "--out", &one]].concat());
    lab.run(&[&wide[..], &["--jobs", "2", "--out", &two]].concat());
    let losses = lab.losses("one");
    assert_eq!(losses, lab.losses("two"));
    assert_eq!(losses.iter().map(|row| row.1).collect::<Vec<_>>(), [3, 5, 3, 5]);
}

#[cfg(unix)]
#[test]
fn a_study_that_is_killed_or_stopped_goes_on() {
    use std::time::{Duration, Instant};
    let lab = Lab::new("seeds = 2", TWO);
    let steps = ["--set", "train.steps=120", "--jobs", "2"];
    let whole = lab.0.arg("whole");
    lab.run(&[&steps[..], &["--out", &whole]].concat());
    // Twice killed, once asked to stop, at moments when something is under way.
    for (kill, signal) in ["-KILL", "-INT", "-KILL"].into_iter().enumerate() {
        let (study, out) = (lab.0.arg("study.toml"), lab.0.arg("out"));
        let mut command = program("ablate");
        command.args([&study, "--out", &out]).args(steps).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("it starts");
        let trained = || {
            let runs = std::fs::read_dir(lab.0.at("out/runs")).into_iter().flatten().flatten();
            runs.filter_map(|run| std::fs::read_to_string(run.path().join("metrics.jsonl")).ok())
                .map(|metrics| metrics.lines().count())
                .sum::<usize>()
        };
        let (before, deadline) = (trained(), Instant::now() + Duration::from_secs(60));
        while trained() < before.max(20 * kill) + 5 {
            assert!(Instant::now() < deadline, "nothing is trained");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            std::process::Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status()
                .expect("kill")
                .success()
        );
        let output = child.wait_with_output().expect("it ends");
        assert!(!output.status.success());
        if signal == "-INT" {
            let said = said(&output);
            assert!(said.contains("error: stopped; the same command goes on from here"), "{said}");
        }
    }
    let there = lab.rows("out").len();
    assert!(there < 4, "it was interrupted: {there} runs were done");
    lab.run(&steps);
    assert_eq!(lab.losses("out"), lab.losses("whole"));
}

#[test]
fn equal_parameters_are_equal_and_what_cannot_be_is_said() {
    let rest = "
[[variant]]
name = \"rwkv-4\"
[[variant]]
name = \"attention\"
model.mixers.sequence.attention.n_head = 2
[[variant]]
name = \"deep\"
model.n_layer = 2
[[variant]]
name = \"wide\"
model.n_embd = 64
";
    let lab = Lab::new("seeds = 1\nequal_params = true", rest);
    let result = lab.run(&["--set", "model.n_embd=32"]);
    let params = |name: &str| {
        let rows = result["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["variant"] == name).expect("there")["params"].as_f64().expect("a count")
    };
    let off = |name: &str| params(name) / params("rwkv-4") - 1.0;
    assert!(off("attention").abs() < 0.01 && off("deep").abs() < 0.01, "{} {}", off("attention"), off("deep"));
    assert!(off("wide") > 0.01, "one unit is still too many");
    let notes = result["notes"].to_string();
    assert!(notes.contains("wide has +") && !notes.contains("deep") && !notes.contains("attention"), "{notes}");
    assert!(result["variants"][2]["changes"].to_string().contains("model.dim_ffn"));
    assert_eq!(result["variants"][1]["changes"][1][0], "model.mixers.sequence.attention.n_head");
}

#[test]
fn a_run_that_fails_is_recorded_and_the_others_go_on() {
    let rest = "
[[variant]]
name = \"rwkv-4\"
[[variant]]
name = \"too fast\"
train.lr_init = 1e30
train.lr_final = 1e30
train.max_skips = 0
";
    let lab = Lab::new("seeds = 2", rest);
    let output = lab.output(&["--json"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: 2 of 4 runs failed; too fast with seed 0: the loss is"), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("the result all the same");
    assert_eq!(result["standings"].as_array().map(Vec::len), Some(2));
    let rows = lab.rows("out");
    assert_eq!(rows.iter().filter(|row| row["status"] == "done").count(), 2);
    assert!(rows[3]["status"] == "failed" && rows[3]["error"].as_str().expect("why").contains("at step"));
    let markdown = std::fs::read_to_string(lab.0.at("out/ablate.md")).expect("the report");
    assert!(markdown.contains("2 of 4 runs failed") && markdown.contains("Without a run that ended well: too fast"));
}

#[test]
fn configurations_are_variants_named_after_their_files() {
    let folder = Folder::new();
    std::fs::create_dir(folder.at("configs")).expect("made");
    for (name, width) in [("narrow", 8), ("wide", 16)] {
        let text = format!(
            "[model]\nn_layer = 1\nn_embd = {width}\n[data]\ntext = {:?}\n[train]\nsteps = 2\nctx_len = 16\nbatch_size = 2\n\
             val_windows = 4\nseed = 7",
            folder.arg("text.txt")
        );
        std::fs::write(folder.at(&format!("configs/{name}.toml")), text).expect("written");
    }
    let (configs, out) = (folder.arg("configs"), folder.arg("out"));
    let args = ["--seeds", "1", "--baseline", "wide", "--json", "--out", &out];
    let result = support::success("ablate", &[&[configs.as_str()][..], &args].concat());
    let result: Value = serde_json::from_str(&result).expect("JSON");
    let names = [0, 1].map(|variant| &result["variants"][variant]["name"]);
    assert_eq!((names, &result["rows"][0]["seed"]), ([&"narrow".into(), &"wide".into()], &7.into()));
    assert!(result["verdict"].as_str().expect("words").starts_with("Against wide"));
    // The same by name, and without data on the stories.
    let files = [folder.arg("configs/wide.toml"), folder.arg("configs/narrow.toml")];
    let again = support::success("ablate", &[&[files[0].as_str(), files[1].as_str()][..], &args].concat());
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(again["rows"][1]["val_loss"], result["rows"][0]["val_loss"]);
    std::fs::write(folder.at("tiny.toml"), "[model]\nn_layer = 1\nn_embd = 8\n[train]\nsteps = 2\nval_windows = 2")
        .expect("written");
    let (tiny, other) = (folder.arg("tiny.toml"), folder.arg("other"));
    support::success("ablate", &[&tiny, "--seeds", "1", "--out", &other]);
    assert!(std::fs::read_to_string(folder.at("other/stories.txt")).expect("the text").lines().count() == 600);
}

#[test]
fn what_is_wrong_with_a_study_is_said_in_one_sentence() {
    let lab = Lab::new("", TWO);
    let says = |top: &str, rest: &str, words: &[&str]| {
        lab.write(top, rest);
        let said = lab.refused(&[]);
        for word in words {
            assert!(said.contains(word), "{word} is missing in {said}");
        }
    };
    says("seedz = 3", TWO, &["study.toml", "line 1", "seedz", "did you mean `seeds`?"]);
    says("", &format!("{TWO}\ntrain.stepz = 3"), &["`slow & steady`", "stepz", "did you mean `steps`?"]);
    says("", &format!("[base.tune]\nmethood = \"lora\"\n{TWO}"), &["[base]", "methood", "did you mean `method`?"]);
    says("", &format!("{TWO}\nmodle.n_embd = 3"), &["modle", "did you mean `model`?"]);
    says("", &format!("{TWO}\n[[variant]]\nname = \"rwkv-4\""), &["two variants", "`rwkv-4`"]);
    says("", &format!("{TWO}\n[[variant]]\nname = \"slow_&_steady\""), &["share the folder", "slow_&_steady"]);
    says("", &format!("{TWO}\n[[variant]]\nname = \"none\"\ntrain.seed = 3"), &["`none`", "train.seed"]);
    says("", &format!("{TWO}\n[[variant]]\nname = \"none\"\nmodel.n_layer = 0"), &["`none`", "n_layer"]);
    says("metric = \"val_los\"", TWO, &["val_los", "val_exact"]);
    says("baseline = \"rwkv-5\"", TWO, &["rwkv-5", "rwkv-4, slow & steady"]);
    says("seeds = [1, 1]", TWO, &["seeds", "1 twice"]);
    says("seeds = []", TWO, &["seeds"]);
    says("seeds = \"three\"", TWO, &["seeds", "three"]);
    says("", "", &["[[variant]]"]);
    says("", &format!("{TWO}\ndata.val_text = \"no-such.txt\""), &["no-such.txt"]);
    assert!(!lab.0.at("out/runs").exists(), "nothing was trained");
}

#[test]
fn a_metric_that_a_run_does_not_have_is_named() {
    let lab = Lab::new("seeds = 1", TWO);
    let output = lab.output(&["--metric", "val_exact", "--jobs", "1"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("rwkv-4-seed0 has no val_exact; it has val_loss"), "{said}");
    assert!(!lab.0.at("out/runs/slow___steady-seed0/step-000008").exists(), "it is said after the first run");
    let output = lab.output(&["--metric", "val_los"]);
    assert_eq!(output.status.code(), Some(2), "wrong arguments");
    assert!(lab.output(&["--train-into", "x"]).status.code() == Some(1), "stdin has no configuration");
}

#[test]
fn tasks_are_judged_by_their_answers() {
    let text = format!("metric = \"val_accuracy\"\nseeds = 2\n{BASE}[base.data]\ntask = \"parity\"\n");
    let rest = "
[[variant]]
name = \"small\"
group = \"rwkv-4\"
x = 8
model.n_embd = 8
[[variant]]
name = \"large\"
group = \"rwkv-4\"
x = 16
[[variant]]
name = \"another task\"
data.task.induction.symbols = 4
";
    let lab = Lab(Folder::new());
    std::fs::write(lab.0.at("study.toml"), text + rest).expect("written");
    let result = lab.run(&["--set", "train.ctx_len=64"]);
    for row in lab.rows("out") {
        let share = |key: &str| row[key].as_f64().expect("measured");
        assert!((0.0..=1.0).contains(&share("val_accuracy")) && share("val_exact") <= share("val_accuracy"), "{row}");
    }
    let means: Vec<f64> = [0, 1, 2].map(|i| result["standings"][i]["mean"].as_f64().expect("a mean")).to_vec();
    assert!(means.is_sorted_by(|a, b| a >= b), "higher is better: {means:?}");
    // Of two tasks side by side the variant's takes the base's place, and with it another vocabulary.
    let changes = result["variants"][2]["changes"].as_array().expect("a list");
    assert!(changes.iter().any(|change| change[0] == "data.task.induction.symbols"), "{changes:?}");
    assert!(
        changes.iter().any(|change| change[0] == "data.task.parity.final_only" && change[1] == "unset"),
        "{changes:?}"
    );
    assert!(lab.0.at("out/ablate-x.svg").exists());
}
