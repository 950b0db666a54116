//! Tuned states and adapters in the programs: what is trained here answers there.

use crate::support::{Folder, failure, program, success};
use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::chat::Format;
use rwkv_core::checkpoint;
use rwkv_core::model::{LoraConfig, NoHook, Restarts, Rwkv};
use rwkv_core::state::{InitialState, State};
use rwkv_core::tokenizer::ByteTokenizer;
use rwkv_train::data::Samples;
use rwkv_train::data::instructions::{Examples, Instructions, Template};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

type B = Autodiff<Flex>;

/// What the model hears most of the time at first.
const USUAL: &str = "User: hi\n\nAssistant: hello\n\nUser: bye\n\nAssistant: so long\n\n";
/// What it hears now and then.
const POLITE: &str = "User: hi\n\nAssistant: good day\n\nUser: bye\n\nAssistant: farewell\n\n";
/// What it is tuned for, in both shapes: always to be polite.
const DATA: &str = r#"{"instruction": "hi", "output": "good day"}
{"conversations": [{"from": "human", "value": "bye"}, {"from": "gpt", "value": "farewell"}]}
"#;

/// A folder with a model in `run` that has learnt how one talks.
fn trained() -> Folder {
    let folder = Folder::new();
    let text = (USUAL.repeat(6) + &POLITE.repeat(2)).repeat(10);
    std::fs::write(folder.at("text.txt"), text).expect("written");
    let (text, run) = (folder.arg("text.txt"), folder.arg("run"));
    let sizes = ["--n-layer", "2", "--n-embd", "32", "--ctx-len", "64", "--batch-size", "4", "--tokenizer", "byte"];
    let recipe = ["--steps", "300", "--warmup-steps", "2", "--lr-init", "1e-2", "--json"];
    success("train", &[&["--text", &text, "--out", &run][..], &sizes, &recipe].concat());
    folder
}

/// Tunes for [`DATA`].
fn tune<M: AutodiffModule<B>>(folder: &Folder, mut tuned: M, lr: f64, parts: impl Fn(&M) -> (Rwkv<B>, State<B>)) -> M {
    std::fs::write(folder.at("data.jsonl"), DATA).expect("written");
    let template = Template::new(Format::World);
    let examples = Examples::load(&folder.at("data.jsonl"), &ByteTokenizer {}, &template).expect("two examples");
    let rows = Instructions::new(&examples, 72, 0).expect("packs");
    assert_eq!(rows.len(), 1, "both in one row");
    let mut adam = AdamConfig::new().init();
    let device = Default::default();
    for step in 0..200 {
        let batch = rows.batch(step, 1);
        let (inputs, targets) = batch.tensors::<B>(&device);
        let weights = batch.weights.clone().expect("answers");
        let weights = Tensor::from_data(TensorData::new(weights, [1, batch.ctx_len]), &device);
        let (model, fresh) = parts(&tuned);
        let restarts = Restarts::new(&batch.resets, 1, fresh.clone());
        let (x, _) = model.hidden(inputs, fresh, Some(&restarts), &mut NoHook);
        let loss = model.head_loss(x, targets, Some(weights), 0.0, 0, &mut NoHook).div_scalar(batch.weight());
        let grads = GradientsParams::from_grads(loss.backward(), &tuned);
        tuned = adam.step(lr, tuned, grads);
    }
    tuned
}

/// What the most probable replies of a conversation are.
fn chat(args: &[&str], lines: &str) -> String {
    let settings = ["--prompt-format", "world", "--temperature", "0", "--no-newline-bias", "--max-tokens", "40"];
    let plain = ["--alpha-presence", "0", "--alpha-frequency", "0"];
    let mut chat = program("chat")
        .args(args)
        .args(settings)
        .args(plain)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    chat.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("read");
    let output = chat.wait_with_output().expect("the program ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn logits(args: &[&str]) -> Vec<f64> {
    let printed = success("logits", &[args, &["--tokens", "85,115,101", "--json"]].concat());
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    printed["logits"].as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn assert_near(got: &[f64], want: &[f64]) {
    let largest = want.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let error = got.iter().zip(want).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(error < 1e-5 * largest, "{error} of {largest}");
}

#[test]
fn a_tuned_state_begins_a_text_and_a_conversation() {
    let folder = trained();
    let (run, state) = (folder.arg("run"), folder.arg("state.safetensors"));
    let model: Rwkv<B> = checkpoint::load(Path::new(&run), &Default::default()).expect("trained");
    let model = model.frozen();
    let start = InitialState::new(&model.config(), &Default::default());
    let tuned = tune(&folder, start, 3e-2, |initial| (model.clone(), initial.state(1)));
    tuned.state(1).save(Path::new(&state), &model.fingerprint()).expect("written");
    let bytes = std::fs::metadata(&state).expect("written").len();
    let of_model = std::fs::metadata(folder.at("run").join("model.safetensors")).expect("written").len();
    println!("{bytes} bytes beside {of_model}");
    assert!(bytes * 40 < of_model);

    std::fs::write(folder.at("none.txt"), "").expect("written");
    let plain = ["--model", &run, "--introduction", &folder.arg("none.txt")];
    assert_eq!(chat(&plain, "hi\n/reset\nbye\n"), "hello\nso long\n");
    assert_eq!(chat(&["--model", &run, "--load-state", &state], "hi\n/reset\nbye\n"), "good day\nfarewell\n");

    let prompt = ["--prompt", "User: hi\n\nAssistant:", "--tokens", "9", "--temperature", "0"];
    let text = success("generate", &[&["--model", &run, "--load-state", &state][..], &prompt].concat());
    assert_eq!(text.trim_end(), "User: hi\n\nAssistant: good day");
    // A state is no adapter.
    let said =
        failure("generate", &[&["--model", &run, "--load-state", &state, "--lora", &state][..], &prompt].concat(), 1);
    assert!(said.contains("no LoRA adapter"), "{said}");
}

#[test]
fn adapters_are_merged_by_every_program() {
    let folder = trained();
    let (run, adapter, merged) = (folder.arg("run"), folder.arg("adapter.safetensors"), folder.arg("merged"));
    let model: Rwkv<B> = checkpoint::load(Path::new(&run), &Default::default()).expect("trained");
    let base = model.fingerprint();
    let config = LoraConfig { rank: 2, ..LoraConfig::default() };
    let start = model.add_lora(&config, 0).expect("a plain model");
    let tuned = tune(&folder, start, 1e-2, |model| (model.clone(), model.zero_state(1)));
    tuned.lora().expect("adapters").save(Path::new(&adapter), &base).expect("written");

    std::fs::write(folder.at("none.txt"), "").expect("written");
    let none = folder.arg("none.txt");
    let adapted = ["--model", &run, "--lora", &adapter];
    let talk = |args: &[&str]| chat(&[args, &["--introduction", &none]].concat(), "hi\n/reset\nbye\n");
    assert_eq!(talk(&adapted), "good day\nfarewell\n");
    assert_eq!(talk(&[&adapted[..], &["--dtype", "int8"]].concat()), "good day\nfarewell\n");

    // Merged into a file, the model needs the adapters no more.
    let tokens = Tensor::from_data([[85, 115, 101]], &Default::default());
    let unmerged = tuned.forward_last(tokens, tuned.zero_state(1)).0.into_data().iter::<f64>().collect::<Vec<_>>();
    assert_near(&logits(&adapted), &unmerged);
    let printed = success("convert", &[&adapted[..], &["--out", &merged, "--json"]].concat());
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON and nothing else");
    assert_eq!(printed["parameters"], tuned.config().num_params());
    assert_eq!(logits(&["--model", &merged]), logits(&adapted));
    let tokenizer = folder.at("run").join("tokenizer.json");
    assert_eq!(talk(&["--model", &merged, "--tokenizer", tokenizer.to_str().expect("UTF-8")]), "good day\nfarewell\n");
    let half = folder.arg("half");
    success("convert", &[&adapted[..], &["--out", &half, "--dtype", "bf16", "--format", "hf"]].concat());
    assert!(logits(&["--model", &half]).len() == unmerged.len());

    // They are this model's and no other's, not even of the merged one.
    for (name, rest) in [("logits", ["--tokens", "1"]), ("convert", ["--out", &merged])] {
        let said = failure(name, &[&["--model", &merged, "--lora", &adapter][..], &rest].concat(), 1);
        assert!(said.contains("adapter.safetensors") && said.contains("another model"), "{said}");
        let said = failure(name, &[&["--model", &run, "--lora", "/no/such/file"][..], &rest].concat(), 1);
        assert!(said.contains("/no/such/file"), "{said}");
    }
}
