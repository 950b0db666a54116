//! `evaluate`, on tasks of a few made-up rows.

use crate::support::{Folder, failure, program, success};
use serde_json::{Value, json};

const TASKS: &str = "lambada_openai,piqa,winogrande,arc_easy,arc_challenge,sciq";

/// Writes a row a line.
fn write(folder: &Folder, task: &str, split: &str, rows: &[Value]) {
    let path = folder.at("data").join(task);
    std::fs::create_dir_all(&path).expect("a folder");
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path.join(format!("{split}.jsonl")), lines).expect("written");
}

fn science(question: &str, key: &str) -> Value {
    json!({"question": question, "choices": {"text": ["the fox", "the dog", "over"], "label": ["A", "B", "C"]}, "answerKey": key})
}

/// A model that knows the letters of its text and bytes for the rest, and data for the six tasks.
fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.at("bytes.json"), "{\"type\":\"byte\"}").expect("written");
    folder.train(&["--tokenizer", &folder.arg("bytes.json")]);
    let words = ["the quick brown fox", "the lazy dog sleeps; the fox", "over the\n\nlazy"];
    write(&folder, "lambada_openai", "test", &words.map(|text| json!({ "text": text })));
    let goal = |label| json!({"goal": "wake the dog", "sol1": "jump over it", "sol2": "be a fox ", "label": label});
    write(&folder, "piqa", "validation", &[goal(0), goal(1), goal(0)]);
    let train: Vec<Value> =
        (0..9).map(|i| json!({"goal": format!("g{i}"), "sol1": "a", "sol2": "b", "label": i % 2})).collect();
    write(&folder, "piqa", "train", &train);
    let blank =
        json!({"sentence": "The fox beat the dog as _ was quick.", "option1": "fox", "option2": "dog", "answer": "1"});
    write(&folder, "winogrande", "validation", &[blank.clone(), blank]);
    write(&folder, "arc_easy", "test", &[science("Who jumps?", "A"), science("Who sleeps?", "B")]);
    write(&folder, "arc_challenge", "test", &[science("Where?", "C")]);
    let support = json!({"support": "", "question": "Who?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "fox"});
    write(&folder, "sciq", "validation", &[support]);
    folder
}

fn args(folder: &Folder, tasks: &str, extra: &[&str]) -> Vec<String> {
    let (run, data) = (folder.arg("run"), folder.arg("data"));
    let args = ["--model", &run, "--data", &data, "--tasks", tasks].into_iter().chain(extra.iter().copied());
    args.map(str::to_owned).collect()
}

fn evaluate(folder: &Folder, tasks: &str, extra: &[&str]) -> Value {
    let args = args(folder, tasks, &[extra, &["--json"]].concat());
    serde_json::from_str(&success("evaluate", &args.iter().map(String::as_str).collect::<Vec<_>>())).expect("JSON")
}

fn fails(folder: &Folder, tasks: &str, extra: &[&str], code: i32) -> String {
    let args = args(folder, tasks, extra);
    failure("evaluate", &args.iter().map(String::as_str).collect::<Vec<_>>(), code)
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn six_tasks_are_scored_and_everything_that_matters_is_in_the_report() {
    let folder = folder();
    let (out, rows) = (folder.arg("results.json"), folder.arg("samples.jsonl"));
    let printed = evaluate(&folder, TASKS, &["--out", &out, "--log-samples", &rows, "--resamples", "100"]);
    let written: Value =
        serde_json::from_slice(&std::fs::read(folder.at("results.json")).expect("written")).expect("JSON");
    assert_eq!(printed, written);
    assert!(!folder.at("results.json.journal").exists(), "it is done");
    let page = std::fs::read_to_string(folder.at("results.html")).expect("a page");
    assert!(page.contains("<svg") && page.contains("winogrande") && folder.at("results.md").exists());
    for (task, metrics) in [
        ("lambada_openai", &["acc", "acc_stderr", "perplexity", "perplexity_stderr"][..]),
        ("piqa", &["acc", "acc_norm", "acc_norm_stderr", "acc_stderr"]),
        ("winogrande", &["acc", "acc_stderr"]),
        ("sciq", &["acc", "acc_norm"]),
    ] {
        let found: Vec<&String> = written["results"][task].as_object().expect("metrics").keys().collect();
        assert_eq!(found, metrics, "{task}");
    }
    // Two of three questions of piqa are the same but for the answer.
    let third = written["results"]["piqa"]["acc"].as_f64().expect("a number") * 3.0;
    assert!([1.0, 2.0].contains(&third.round()) && (third - third.round()).abs() < 1e-12);
    assert_eq!(written["settings"]["context_start"], "harness");
    assert_eq!(written["settings"]["splits"]["sciq"], "validation");
    assert_eq!(written["n-samples"]["piqa"], json!({"original": 3, "effective": 3, "truncated": 0}));
    assert_eq!(written["versions"]["piqa"], 1);
    assert_eq!(written["higher_is_better"]["lambada_openai"], json!({"acc": true, "perplexity": false}));
    assert_eq!(written["model"]["fingerprint"].as_str().expect("a hash").len(), 32);
    assert_eq!(written["model"]["tokenizer_hash"].as_str().expect("a hash").len(), 32);
    assert!(page.contains("sciq (validation instead of test)"), "a split that stands in");
    assert_eq!(written["settings"]["data"]["piqa"].as_array().expect("files").len(), 1);
    let speed = &written["speed"];
    assert!(speed["tokens_read"].as_u64() < speed["tokens_asked"].as_u64());

    let rows = lines(&folder.at("samples.jsonl"));
    assert_eq!(rows.len(), 3 + 6 + 4 + 6 + 3 + 4);
    assert_eq!(speed["requests"], rows.len());
    let sum: f64 = rows
        .iter()
        .filter(|row| row["task"] == "lambada_openai")
        .map(|row| row["loglikelihood"].as_f64().expect("a number"))
        .sum();
    let perplexity = written["results"]["lambada_openai"]["perplexity"].as_f64().expect("a number");
    assert!(((-sum / 3.0).exp() / perplexity - 1.0).abs() < 1e-9);
    let place =
        |row: &Value| (row["task"].as_str().expect("text").to_owned(), row["doc_id"].as_u64(), row["request"].as_u64());
    assert_eq!(place(&rows[4]), ("piqa".to_owned(), Some(0), Some(1)));
    assert!(rows.iter().all(|row| row["is_greedy"].is_boolean()));
}

#[test]
fn sharing_batches_and_length_of_passes_change_nothing() {
    let folder = folder();
    let answers = |name: &str, extra: &[&str]| {
        let rows = folder.arg(name);
        evaluate(&folder, TASKS, &[&["--log-samples", &rows], extra].concat());
        lines(&folder.at(name))
    };
    let expected = answers("a", &["--batch-size", "1", "--no-prefix-sharing"]);
    for (name, extra) in [("b", &["--batch-size", "64"][..]), ("c", &["--batch-size", "3", "--memory", "1"])] {
        for (found, expected) in answers(name, extra).iter().zip(&expected) {
            let number = |row: &Value| row["loglikelihood"].as_f64().expect("a number");
            let allowed = 5e-4 + 2e-5 * number(expected).abs();
            assert!((number(found) - number(expected)).abs() <= allowed, "{found} {expected}");
            let [mut found, mut expected] = [found.clone(), expected.clone()];
            (found["loglikelihood"], expected["loglikelihood"]) = (Value::Null, Value::Null);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_newline_first_and_examples_change_the_answers_and_are_reported() {
    let folder = folder();
    let run = |extra: &[&str]| evaluate(&folder, "piqa", extra);
    let (plain, newline) = (run(&[]), run(&["--context-start", "reference"]));
    assert_eq!(newline["settings"]["context_start"], "reference");
    let tokens = |result: &Value| result["speed"]["tokens_asked"].as_u64().expect("a number");
    assert_eq!(tokens(&newline), tokens(&plain) + 6);
    let shots = run(&["--num-fewshot", "2"]);
    assert_eq!(shots["n-shot"]["piqa"], 2);
    assert!(tokens(&shots) > tokens(&plain));
    assert_eq!(shots["settings"]["data"]["piqa"].as_array().expect("files").len(), 2, "the examples' file, too");
    assert_eq!(tokens(&run(&["--limit", "1"])) * 3, tokens(&plain));
    let cut = run(&["--max-length", "20"]);
    assert_eq!(cut["n-samples"]["piqa"]["truncated"], 6);
}

#[test]
fn a_split_that_stands_in_is_said_and_may_be_named() {
    let folder = folder();
    let arguments = args(&folder, "sciq", &["--json"]);
    let output = program("evaluate").args(arguments).output().expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("no split test") && said.contains("asking validation"), "{said}");
    let named = evaluate(&folder, "piqa", &["--split", "piqa=train"]);
    assert_eq!(
        (&named["settings"]["splits"]["piqa"], &named["n-samples"]["piqa"]["original"]),
        (&json!("train"), &json!(9))
    );
    assert!(fails(&folder, "piqa", &["--split", "sciq=train"], 1).contains("--split names sciq"));
}

#[test]
fn a_killed_evaluation_goes_on() {
    let folder = folder();
    let out = folder.arg("results.json");
    let whole = evaluate(&folder, TASKS, &["--log-samples", &folder.arg("whole")]);
    // A journal is there as soon as an evaluation has begun; what is in it was made by one that failed at the end.
    let nowhere = ["--out", out.as_str(), "--log-samples", "/proc/no/such/file"];
    assert!(fails_after_asking(&folder, &nowhere).contains("/proc/no/such"));
    let journal = folder.at("results.json.journal");
    let text = std::fs::read_to_string(&journal).expect("it is kept");
    let kept: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(kept.len() > 15);
    // Cut in the middle of the tenth answer.
    let cut = kept[..10].concat() + &kept[10][..20];
    std::fs::write(&journal, cut).expect("written");
    let resumed = evaluate(&folder, TASKS, &["--out", &out, "--log-samples", &folder.arg("resumed")]);
    assert!(resumed["speed"]["resumed"].as_u64() >= Some(9));
    assert!(!journal.exists());
    for (a, b) in lines(&folder.at("whole")).iter().zip(&lines(&folder.at("resumed"))) {
        let number = |row: &Value| row["loglikelihood"].as_f64().expect("a number");
        assert!((number(a) - number(b)).abs() <= 5e-4 + 2e-5 * number(a).abs());
    }
    assert_eq!(whole["results"]["piqa"], resumed["results"]["piqa"]);
}

/// As [`fails`], where progress and notices come before the sentence.
fn fails_after_asking(folder: &Folder, extra: &[&str]) -> String {
    let output = program("evaluate").args(args(folder, TASKS, extra)).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8").lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_table_for_people_has_tasks_metrics_and_errors() {
    let folder = folder();
    let arguments = args(&folder, "piqa,winogrande", &["--limit", "2"]);
    let printed = success("evaluate", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for expected in ["piqa", "winogrande", "acc_norm", "±", "the first 2 of 3 documents", "samples/s", "harness"] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[test]
fn bad_input_is_one_sentence_that_names_the_place() {
    let folder = folder();
    assert!(fails(&folder, "checkers", &[], 1).contains("checkers"));
    let said = fails(&folder, "hellaswag", &[], 1);
    assert!(said.contains("hellaswag"), "{said}");
    write(
        &folder,
        "copa",
        "validation",
        &[json!({"premise": "It rained.", "question": "effect", "choice1": "It froze.", "label": 0})],
    );
    let said = fails(&folder, "copa", &[], 1);
    assert!(said.contains("validation.jsonl, line 1") && said.contains("choice2"), "{said}");
    write(&folder, "lambada_openai", "test", &[json!({"text": "fine words"}), json!({"text": " \u{1f} word"})]);
    let said = fails(&folder, "lambada_openai", &[], 1);
    assert!(said.contains("test.jsonl, line 2") && said.contains("white space"), "{said}");
    write(&folder, "arc_easy", "test", &[science("Who?", "Z")]);
    assert!(fails(&folder, "arc_easy", &[], 1).contains("test.jsonl, line 1"));
    write(&folder, "piqa", "validation", &[json!({"goal": "g", "sol1": "", "sol2": "b", "label": 0})]);
    assert!(fails(&folder, "piqa", &[], 1).contains("choice 1 of 2 is empty"));
    assert!(fails(&folder, "winogrande", &["--num-fewshot", "3"], 1).contains("train"), "no split to draw from");

    // A tokenizer of another vocabulary.
    let many: String = (0..400u32).filter_map(|i| char::from_u32(0x4e00 + i)).collect();
    let chars: Vec<char> = many.chars().collect();
    std::fs::write(folder.at("chars.json"), json!({"type": "char", "chars": chars}).to_string()).expect("written");
    let said = fails(&folder, "winogrande", &["--tokenizer", &folder.arg("chars.json")], 1);
    assert!(said.contains("chars.json"), "{said}");
    // A journal that is none.
    std::fs::write(folder.at("r.json.journal"), "notes\n").expect("written");
    assert!(fails(&folder, "winogrande", &["--out", &folder.arg("r.json")], 1).contains("r.json.journal"));
    for (flag, value) in [("--limit", "0"), ("--context-start", "middle"), ("--split", "sciq"), ("--batch-size", "0")] {
        assert!(fails(&folder, "winogrande", &[flag, value], 2).contains(value));
    }
}
