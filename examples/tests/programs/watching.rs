//! What a person sees of a training run while it goes on, and what is left for TensorBoard afterwards.

use crate::support::{Folder, failure, program, success};

fn events(folder: &Folder) -> usize {
    let entries = std::fs::read_dir(folder.at("run")).expect("the run");
    let is_event = |name: std::ffi::OsString| name.to_string_lossy().starts_with("events.out.tfevents.");
    entries.filter(|entry| is_event(entry.as_ref().expect("an entry").file_name())).count()
}

fn rows(folder: &Folder) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.at("run").join("metrics.jsonl")).expect("rows");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

#[test]
fn lines_tell_the_speed_the_share_of_the_peak_and_the_time_left() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("run"));
    let sizes = ["--n-layer", "1", "--n-embd", "16", "--ctx-len", "8", "--batch-size", "2", "--steps", "20"];
    let args = ["--text", &text, "--out", &out, "--log-every", "5", "--peak-flops", "1e12"];
    let output = program("train").args(args).args(sizes).output().expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    let first = said.lines().find(|line| line.starts_with("step 5/20")).expect("a line");
    for part in ["loss ", "tokens/s", "MFU ", "ETA "] {
        assert!(first.contains(part), "{part} in {first}");
    }
    let last = said.lines().find(|line| line.starts_with("step 20/20")).expect("a line");
    assert!(!last.contains("ETA"), "{last}");

    for row in rows(&folder) {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        let vocab = 29.0; // the letters, the space, the semicolon and the full stop
        assert_eq!(number("tokens"), number("step") * 16.0);
        let expected = number("tokens_per_second") * 6.0 * (vocab * 16.0 + 13.0 * 256.0) / 1e12;
        assert!((number("mfu") / expected - 1.0).abs() < 1e-9, "{row}: {expected}");
        assert!(number("seconds") > 0.0);
    }
}

#[test]
fn a_resumed_run_goes_on_counting_and_begins_another_event_file() {
    let folder = Folder::new();
    folder.train(&[]);
    assert_eq!(events(&folder), 1);
    let before = rows(&folder);
    std::fs::remove_dir_all(folder.at("run").join("step-000020")).expect("the newest checkpoint");
    success("train", &["--resume", &folder.arg("run"), "--json"]);
    assert_eq!(events(&folder), 2);
    let after = rows(&folder);
    let column = |rows: &[serde_json::Value], key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(column(&after, "tokens"), column(&before, "tokens"));
    let seconds: Vec<f64> = column(&after, "seconds").iter().map(|x| x.as_f64().expect("a number")).collect();
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "{seconds:?}");
}

#[test]
fn a_peak_that_is_none_and_a_missing_dashboard_are_explained() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("run"));
    for peak in ["fast", "0", "-1e12", "inf"] {
        let said = failure("train", &["--text", &text, "--out", &out, &format!("--peak-flops={peak}")], 2);
        assert!(said.contains("peak_flops") && said.contains("measure"), "{said}");
    }
    // Without the feature it is named; with it there is no terminal here.
    let said = failure("train", &["--text", &text, "--out", &out, "--dashboard"], 1);
    let expected = if cfg!(feature = "dashboard") { "terminal" } else { "--features dashboard" };
    assert!(said.contains(expected), "{said}");
    assert!(!folder.at("run").exists(), "nothing is left behind");
}
