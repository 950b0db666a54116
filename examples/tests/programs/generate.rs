//! The `generate` program's flags, its report, and states that it writes.

use crate::support::{Folder, failure, success};
use serde_json::Value;

/// A trained model and the program on it.
struct Model {
    folder: Folder,
    run: String,
}

impl Model {
    fn new() -> Self {
        let folder = Folder::new();
        folder.train(&[]);
        let run = folder.arg("run");
        Self { folder, run }
    }

    fn json(&self, args: &[&str]) -> Value {
        let printed = success("generate", &[&["--model", &self.run, "--json"], args].concat());
        serde_json::from_str(&printed).expect("JSON and nothing else")
    }

    /// The sentence of a run that must fail.
    fn fails(&self, args: &[&str], code: i32) -> String {
        failure("generate", &[&["--model", &self.run], args].concat(), code)
    }

    /// The id of a character, from the tokenizer's file.
    fn id(&self, character: char) -> u64 {
        let file = std::fs::read_to_string(self.folder.at("run").join("tokenizer.json")).expect("the tokenizer");
        let tokenizer: Value = serde_json::from_str(&file).expect("JSON");
        let chars = tokenizer["chars"].as_array().expect("characters");
        let wanted = character.to_string();
        chars.iter().position(|c| c.as_str() == Some(&wanted)).expect("in the vocabulary") as u64
    }
}

#[test]
fn the_report_says_what_how_and_how_fast() {
    let model = Model::new();
    let report = model.json(&["--prompt", "the ", "--tokens", "30", "--logprobs", "3"]);
    assert_eq!((&report["prompt"], &report["finish_reason"]), (&"the ".into(), &"length".into()));
    assert_eq!(report["tokens"].as_array().expect("tokens").len(), 30);
    assert_eq!(report["text"].as_str().expect("text").chars().count(), 30, "a token is a character");
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "seconds"] {
        assert!(report[key].as_f64().expect("a number") > 0.0, "{key} in {report}");
    }
    assert_eq!(report["prompt_tokens"], 4);
    let logprobs = report["logprobs"].as_array().expect("log-probabilities");
    assert_eq!(logprobs.len(), 30);
    for (step, token) in logprobs.iter().zip(report["tokens"].as_array().expect("tokens")) {
        assert_eq!(&step["chosen"]["token"], token);
        let top: Vec<f64> =
            step["top"].as_array().expect("the top").iter().filter_map(|t| t["logprob"].as_f64()).collect();
        assert!(top.len() == 3 && top[0] >= top[1] && top[1] >= top[2] && top[0] < 0.0, "{top:?}");
    }
    let without = model.json(&["--prompt", "the ", "--tokens", "30"]);
    assert!(without.get("logprobs").is_none() && without.get("stop").is_none());
    assert_eq!(without["tokens"], report["tokens"]);
    let nothing = model.json(&["--prompt", "the ", "--tokens", "0"]);
    assert_eq!((&nothing["text"], &nothing["finish_reason"]), (&"".into(), &"length".into()));
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let model = Model::new();
    let greedy = ["--prompt", "the quick ", "--tokens", "60", "--temperature", "0"];
    let whole = model.json(&greedy);
    let whole = whole["text"].as_str().expect("text");
    // A string of several tokens that occurs in the text.
    let stop = &whole[5..8];
    let before = &whole[..whole.find(stop).expect("there")];
    let report = model.json(&[&greedy[..], &["--stop", "never", "--stop", stop]].concat());
    assert_eq!((report["text"].as_str(), report["finish_reason"].as_str()), (Some(before), Some("stop_string")));
    assert_eq!(report["stop"], stop);
    assert_eq!(report["tokens"].as_array().expect("tokens").len(), before.len() + 3, "its tokens are reported");
    let streamed = success("generate", &[&["--model", &model.run, "--stream", "--stop", stop], &greedy[..]].concat());
    assert_eq!(streamed, format!("the quick {before}\n"));

    let first = whole.chars().nth(4).expect("a fifth character");
    let id = model.id(first).to_string();
    let report = model.json(&[&greedy[..], &["--stop-token", &id]].concat());
    let before = &whole[..whole.find(first).expect("there")];
    assert_eq!((report["text"].as_str(), report["finish_reason"].as_str()), (Some(before), Some("stop_token")));
    assert_eq!(report["tokens"].as_array().expect("tokens").len(), before.len(), "the token is not");
}

#[test]
fn the_sampling_flags_reach_the_sampler() {
    let model = Model::new();
    let text = |args: &[&str]| {
        let base = ["--prompt", "the quick ", "--tokens", "40", "--seed", "5"];
        model.json(&[&base[..], args].concat())["text"].as_str().expect("text").to_owned()
    };
    let greedy = text(&["--temperature", "0"]);
    for one_token_left in [["--top-k", "1"], ["--top-p", "0"], ["--min-p", "1"]] {
        assert_eq!(text(&one_token_left), greedy, "{one_token_left:?}");
    }
    let e = model.id('e').to_string();
    assert!(greedy.contains('e') && !text(&["--temperature", "0", "--ban", &e]).contains('e'));
    assert_eq!(text(&["--logit-bias", &format!("{e}=1000")]), "e".repeat(40));
    assert!(!text(&["--logit-bias", &format!("{e}=-1000")]).contains('e'));
    // A presence penalty of this size makes every character the last of its kind, as long as there are others.
    let distinct = |text: &str| text.chars().collect::<std::collections::BTreeSet<_>>().len();
    let novel = text(&["--temperature", "0", "--alpha-presence", "1000"]);
    assert_eq!(distinct(&novel[..20]), 20, "{novel}");
    for penalty in [["--alpha-frequency", "1000"], ["--repetition-penalty", "1000"]] {
        assert!(distinct(&text(&[&["--temperature", "0"], &penalty[..]].concat())) > distinct(&greedy), "{penalty:?}");
    }
    let plain = ["--top-p", "1", "--temperature", "1.5"];
    for cut in [["--top-a", "0.9"], ["--typical-p", "0.1"], ["--min-p", "0.9"]] {
        assert_ne!(text(&[&plain[..], &cut].concat()), text(&plain), "{cut:?}");
    }
    let repeated = ["--temperature", "0", "--alpha-frequency", "3"];
    assert_ne!(text(&[&repeated[..], &["--alpha-decay", "0.5"]].concat()), text(&repeated));
    assert_ne!(text(&[&repeated[..], &["--exempt-digits"]].concat()), text(&repeated), "spaces are exempt");
}

#[test]
fn a_file_of_prompts_is_a_batch_of_the_same_texts() {
    let model = Model::new();
    let prompts = ["the quick brown fox", "t", "lazy dog; the", "over the"];
    let file = model.folder.arg("prompts.txt");
    std::fs::write(&file, prompts.join("\n") + "\n").expect("written");
    let flags = ["--tokens", "25", "--stop", "dog", "--logprobs", "1"];
    let states = model.folder.arg("states.safetensors");
    let report = model.json(&[&["--prompts-file", &file, "--seed", "7", "--save-state", &states], &flags[..]].concat());
    let texts = report["texts"].as_array().expect("texts");
    assert_eq!(texts.len(), prompts.len());
    assert_eq!(report["prompt_tokens"], prompts.concat().len());
    for (row, (text, prompt)) in texts.iter().zip(prompts).enumerate() {
        let seed = (7 + row).to_string();
        let alone = model.json(&[&["--prompt", prompt, "--seed", &seed], &flags[..]].concat());
        for key in ["prompt", "text", "tokens", "finish_reason"] {
            assert_eq!(text[key], alone[key], "{key} of {prompt}");
        }
    }
    // Each text goes on from its own state.
    let greedy = ["--tokens", "10", "--temperature", "0", "--load-state", &states];
    let next = model.folder.arg("next.txt");
    std::fs::write(&next, " \n".repeat(4)).expect("written");
    let report = model.json(&[&["--prompts-file", &next], &greedy[..]].concat());
    assert_eq!(report["texts"].as_array().expect("texts").len(), 4);
    std::fs::write(&next, " \n".repeat(3)).expect("written");
    assert!(model.fails(&[&["--prompts-file", &next], &greedy[..]].concat(), 1).contains("4 states for 3 prompts"));
    assert!(model.fails(&[&["--prompt", "the"], &greedy[..]].concat(), 1).contains("4 sequences"));

    std::fs::write(&file, "the\n\nquick\n").expect("written");
    assert!(model.fails(&["--prompts-file", &file], 1).contains("line 2"));
    std::fs::write(&file, "the\nquick ж\n").expect("written");
    let said = model.fails(&["--prompts-file", &file], 1);
    assert!(said.contains("prompt 2") && said.contains("'ж'"), "{said}");
    std::fs::write(&file, "").expect("written");
    assert!(model.fails(&["--prompts-file", &file], 1).contains("no prompts"));
    assert!(model.fails(&["--prompts-file", "/no/such/file"], 1).contains("/no/such/file"));
}

#[test]
fn a_state_of_another_model_is_refused() {
    let model = Model::new();
    let state = model.folder.arg("state.safetensors");
    let first = model.json(&["--prompt", "the quick", "--tokens", "5", "--save-state", &state]);
    let tokens: Vec<String> = first["tokens"].as_array().expect("tokens").iter().map(Value::to_string).collect();
    // `logits` goes on from it: the last token is in the state, so one more is read.
    let logits = |args: &[&str]| -> Vec<f64> {
        let printed = success("logits", &[&["--model", &model.run, "--json"], args].concat());
        let report: Value = serde_json::from_str(&printed).expect("JSON");
        report["logits"].as_array().expect("logits").iter().filter_map(Value::as_f64).collect()
    };
    let ids: Vec<String> = "the quick".chars().map(|c| model.id(c).to_string()).chain(tokens).collect();
    let whole = logits(&["--tokens", &format!("{},3", ids.join(","))]);
    for mode in ["parallel", "recurrent"] {
        let continued = logits(&["--tokens", "3", "--load-state", &state, "--mode", mode]);
        assert!(whole.iter().zip(&continued).all(|(x, y)| (x - y).abs() < 1e-4), "{mode}");
    }

    // The same sizes and other weights.
    let folder = Folder::new();
    folder.train(&["--seed", "1"]);
    let other = folder.arg("run");
    let said = failure("generate", &["--model", &other, "--prompt", "the", "--load-state", &state], 1);
    assert!(said.contains("another model") && said.contains("state.safetensors"), "{said}");
    let said = failure("logits", &["--model", &other, "--tokens", "1", "--load-state", &state], 1);
    assert!(said.contains("another model"), "{said}");
}

#[test]
fn wrong_arguments_are_told_in_words() {
    let model = Model::new();
    let prompt = ["--prompt", "the"];
    let fails = |args: &[&str], code: i32| model.fails(&[&prompt[..], args].concat(), code);
    for (flag, value, field) in [
        ("--top-a", "2", "top_a"),
        ("--min-p", "-1", "min_p"),
        ("--typical-p", "1.5", "typical_p"),
        ("--alpha-decay", "2", "alpha_decay"),
        ("--alpha-presence", "inf", "alpha_presence"),
        ("--alpha-frequency", "NaN", "alpha_frequency"),
        ("--repetition-penalty", "0", "repetition_penalty"),
        ("--ban", "999", "ban"),
        ("--logit-bias", "999=1", "logit_bias"),
        ("--logit-bias", "1=inf", "logit_bias"),
        ("--stop-token", "999", "stop_tokens"),
        ("--stop", "", "stop_strings"),
    ] {
        let said = fails(&[&format!("{flag}={value}")], 1);
        assert!(said.starts_with(&format!("error: {field}: ")), "{flag} {value}: {said}");
    }
    for (flag, value) in [("--logit-bias", "5"), ("--logit-bias", "x=1"), ("--logit-bias", "5=x"), ("--ban", "x")] {
        let said = fails(&[flag, value], 2);
        assert!(said.contains(flag) && said.contains(value), "{said}");
    }
    assert!(fails(&["--logprobs", "2"], 2).contains("--json"));
    assert!(fails(&["--prompts-file", "x"], 2).contains("--prompts-file"));
    assert!(model.fails(&["--prompts-file", "x", "--stream"], 2).contains("--stream"));
    assert!(model.fails(&[], 2).contains("--prompt"));
    // Nothing is left to draw.
    let all: Vec<String> = (0..40).map(|id| format!("--ban={id}")).collect();
    let vocabulary = std::fs::read_to_string(model.folder.at("run").join("tokenizer.json")).expect("the tokenizer");
    let size = serde_json::from_str::<Value>(&vocabulary).expect("JSON")["chars"].as_array().expect("characters").len();
    let all: Vec<&str> = all[..size].iter().map(String::as_str).collect();
    assert!(fails(&all, 1).contains("banned"));
}
