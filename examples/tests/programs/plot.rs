//! Curves of several runs in one picture.

use crate::support::{Folder, failure, success};

/// A run's folder with rows of metrics only: what an interrupted or copied run may be.
fn run(folder: &Folder, name: &str, rows: usize) -> String {
    let row = |i: usize| {
        let (step, tokens, val) = (10 * i, 640 * i, if i.is_multiple_of(2) { "1.5" } else { "null" });
        format!(
            "{{\"step\":{step},\"loss\":{},\"val_loss\":{val},\"tokens_per_second\":900.0,\"lr\":0.001,\
             \"grad_norm\":0.5,\"tokens\":{tokens},\"mfu\":null,\"seconds\":{}}}\n",
            4.0 / i as f64,
            36 * i
        )
    };
    std::fs::create_dir_all(folder.at(name)).expect("a folder");
    let text: String = (1..=rows).map(row).collect();
    std::fs::write(folder.at(name).join("metrics.jsonl"), text).expect("written");
    folder.arg(name)
}

#[test]
fn two_runs_are_overlaid() {
    let folder = Folder::new();
    folder.train(&[]);
    let (one, two, out) = (folder.arg("run"), run(&folder, "other<run>", 4), folder.arg("curves.svg"));
    let draw = |extra: &[&str]| {
        let printed = success("plot", &[&[&*one, &two, "--out", &out, "--json"], extra].concat());
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON and nothing else");
        (printed, std::fs::read_to_string(&out).expect("the picture"))
    };
    let (printed, svg) = draw(&["--title", "Two & two"]);
    assert_eq!(printed["runs"][1]["last"], serde_json::json!([40.0, 1.0]), "{printed}");
    assert_eq!(printed["runs"][0]["label"], "run");
    // Training and held-out losses of both, in two colours, and what they are called.
    let lines = |colour: &str| svg.split("<polyline").filter(|line| line.contains(colour)).count();
    assert!(lines("#0072B2") >= 2 && lines("#D55E00") >= 2, "{svg}");
    for text in ["Two &amp; two", "other&lt;run&gt;", "training", "held out", "step"] {
        assert!(svg.contains(text), "{text}");
    }
    for (x, last) in [("steps", 40.0), ("tokens", 2560.0), ("hours", 0.04)] {
        assert_eq!(draw(&["--x", x]).0["runs"][1]["last"][0], last, "{x}");
    }
    for y in ["val_loss", "lr", "grad_norm", "tokens_per_second"] {
        draw(&["--y", y, "--log-x", "--log-y"]);
    }
    let (printed, svg) = draw(&["--smooth", "2", "--labels", "first,second"]);
    let smoothed = (4.0 / 3.0 + 1.0) / 2.0;
    assert!((printed["runs"][1]["last"][1].as_f64().expect("a number") - smoothed).abs() < 1e-9, "{printed}");
    assert!(svg.contains("second") && !svg.contains("other"));
}

#[test]
fn operations_need_the_configuration_of_the_run() {
    let folder = Folder::new();
    folder.train(&[]);
    let (one, out) = (folder.arg("run"), folder.arg("curves.svg"));
    let printed = success("plot", &[&one, "--out", &out, "--x", "flops", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let vocab = std::fs::read_to_string(folder.at("text.txt")).expect("text");
    let vocab = vocab.chars().collect::<std::collections::HashSet<_>>().len() as f64;
    let tokens = 20.0 * 4.0 * 16.0;
    assert_eq!(printed["runs"][0]["last"][0], tokens * 6.0 * (vocab * 32.0 + 13.0 * 32.0 * 32.0 * 2.0));
    let said = failure("plot", &[&run(&folder, "bare", 3), "--out", &out, "--x", "flops"], 1);
    assert!(said.contains("config.toml"), "{said}");
}

#[test]
fn bad_input_is_one_sentence() {
    let folder = Folder::new();
    let (good, out) = (run(&folder, "good", 3), folder.arg("curves.svg"));
    let fails = |args: &[&str]| failure("plot", &[args, &["--out", &out]].concat(), 1);
    assert!(fails(&["/no/such/run"]).contains("/no/such/run"));
    std::fs::create_dir(folder.at("empty")).expect("a folder");
    let said = fails(&[&good, &folder.arg("empty")]);
    assert!(said.contains("empty") && said.contains("metrics.jsonl"), "{said}");
    let said = fails(&[&run(&folder, "young", 0)]);
    assert!(said.contains("young") && said.contains("no rows"), "{said}");
    std::fs::write(folder.at("broken.jsonl"), "{\"step\": 1,\n").expect("written");
    let said = fails(&[&folder.arg("broken.jsonl")]);
    assert!(said.contains("broken.jsonl") && said.contains("line 1"), "{said}");
    assert!(fails(&[&good, "--labels", "a,b"]).contains("--labels"));
    let said = fails(&[&good, "--y", "mfu"]);
    assert!(said.contains("good") && said.contains("mfu"), "{said}");
    assert!(!folder.at("curves.svg").exists());

    let said = failure("plot", &[&good, "--out", &folder.arg("curves.png")], 1);
    assert!(said.contains("curves.png") && said.contains(".svg"), "{said}");
    assert!(failure("plot", &[&good, "--out", "/no/such/folder/x.svg"], 1).contains("/no/such/folder"));
    let said = failure("plot", &[&good, "--out", &out, "--y", "speed"], 2);
    assert!(said.contains("speed") && said.contains("tokens_per_second"), "{said}");
    assert!(failure("plot", &["--out", &out], 2).contains("RUN"));
}
