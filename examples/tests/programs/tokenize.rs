//! `tokenize`, from texts to a token file.

use crate::support::{Folder, failure, program, success};
use rwkv_train::data::TokenFile;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Runs `tokenize` with the byte tokenizer, `--json` and `--out out`, unless `args` say other.
fn tokenize(folder: &Folder, out: &str, args: &[&str]) -> Value {
    let out = folder.arg(out);
    let printed = success("tokenize", &[&["--tokenizer", "byte", "--out", &out, "--json"], args].concat());
    serde_json::from_str(&printed).expect("JSON and nothing else")
}

/// The documents of a token file, as bytes.
fn documents(prefix: &Path) -> Vec<String> {
    let file = TokenFile::open(prefix).expect("a token file");
    let mut starts: Vec<usize> = file.document_starts(0, file.len()).collect();
    starts.push(file.len());
    let text = |pair: &[usize]| {
        let ids = file.get(pair[0], pair[1] - pair[0]);
        String::from_utf8(ids.into_iter().map(|id| u8::try_from(id).expect("a byte")).collect()).expect("UTF-8")
    };
    starts.windows(2).map(text).collect()
}

fn files(folder: &Folder, out: &str) -> [Vec<u8>; 2] {
    [".bin", ".idx"].map(|suffix| std::fs::read(folder.at(&format!("{out}{suffix}"))).expect("written"))
}

/// Files in a folder whose name has this in it.
fn left(folder: &Folder, part: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.at("")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.contains(part)).collect()
}

#[test]
fn texts_lines_and_folders_become_documents_in_order() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.at("in/b/.hidden")).expect("created");
    for (name, text) in [
        ("in/c.txt", "last\n"),
        ("in/a.txt", "first, of two\nlines"),
        ("in/b/x.jsonl", "{\"text\": \"one\", \"n\": 1}\n\n{\"n\": 2, \"text\": \"tw\\u00f6\"}\r\n{\"text\": \"\"}"),
        ("in/b/y.txt", ""),
        ("in/b/.hidden/z.txt", "no"),
        ("in/.no", "no"),
    ] {
        std::fs::write(folder.at(name), text).expect("written");
    }
    let (all, one) = (folder.arg("in"), folder.arg("in/a.txt"));
    let said = tokenize(&folder, "out", &["--input", &all, &one]);
    let wanted = ["first, of two\nlines\0", "one\0", "twö\0", "last\n\0", "first, of two\nlines\0"];
    assert_eq!(documents(&folder.at("out")), wanted);
    let bytes = wanted.concat().len() - wanted.len();
    assert_eq!((&said["documents"], &said["empty"]), (&json!(5), &json!(3)), "{said}");
    assert_eq!((&said["tokens"], &said["bytes"]), (&json!(bytes + 5), &json!(bytes)), "{said}");
    assert_eq!((&said["dtype"], &said["resumed"]), (&json!("u16"), &json!(false)), "{said}");
    assert_eq!(said["magic_primes"][1], json!({"ctx_len": 2048, "magic_prime": null}));
    assert_eq!(left(&folder, "out"), left(&folder, "out."), "{said}");
    assert!(left(&folder, "partial").is_empty());

    tokenize(&folder, "lines", &["--input", &all, "--split-lines", "--no-eod", "--dtype", "u32"]);
    assert_eq!(documents(&folder.at("lines")), ["first, of two", "lines", "one", "twö", "last"]);
    assert_eq!(files(&folder, "lines")[1][17], 4, "u32 is written as i32");
    std::fs::write(folder.at("named"), "{\"n\": \"x\", \"text\": 1}\n").expect("written");
    tokenize(&folder, "field", &["--input", &folder.arg("named"), "--format", "jsonl", "--field", "n"]);
    assert_eq!(documents(&folder.at("field")), ["x\0"]);
}

#[test]
fn stdin_is_read_and_the_result_told_to_people() {
    let folder = Folder::new();
    let text = std::fs::File::open(folder.at("text.txt")).expect("there");
    let args = ["--input", "-", "--tokenizer", "byte", "--out", &folder.arg("out")];
    let output = program("tokenize").args(args).stdin(text).output().expect("the program starts");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("documents: 1, tokens: 1981, bytes of text: 1980 ")
            && said.contains("magic prime of ctx_len 4096"),
        "{said}"
    );
    tokenize(&folder, "file", &["--input", &folder.arg("text.txt")]);
    assert!(files(&folder, "out") == files(&folder, "file"));
}

#[test]
fn a_vocabulary_above_u16_takes_u32_and_its_own_tokenizer_file() {
    let folder = Folder::new();
    // A World vocabulary: the 256 bytes, numbers, and one piece whose id u16 does not hold.
    let mut vocab: String = (0..=255u8).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", u32::from(byte) + 1)).collect();
    (257..65_600).for_each(|id| vocab += &format!("{id} '{id:08}' 8\n"));
    vocab += "65600 'the ' 4\n";
    std::fs::write(folder.at("vocab.txt"), vocab).expect("written");
    let (text, vocab) = (folder.arg("text.txt"), folder.arg("vocab.txt"));
    let args = ["--input", &text, "--tokenizer", &vocab, "--out", &folder.arg("out"), "--json"];
    let said: Value = serde_json::from_str(&success("tokenize", &args)).expect("JSON");
    assert_eq!((&said["dtype"], &said["vocab_size"]), (&json!("u32"), &json!(65601)), "{said}");
    let file = TokenFile::open(&folder.at("out")).expect("a token file");
    assert_eq!(file.get(0, 2), [65600, u32::from(b'q') + 1]);
    assert_eq!(file.get(file.len() - 1, 1), [0]);
    let said = failure("tokenize", &[&args[..4], &["--out", &folder.arg("x"), "--dtype", "u16"]].concat(), 1);
    assert!(said.contains("65601 tokens") && said.contains("u32"), "{said}");
}

/// Many documents, some megabytes.
fn corpus(folder: &Folder) -> String {
    let line =
        |i: u64| json!({"text": format!("document {i} {}", "word ".repeat((i * 7919 % 97) as usize))}).to_string();
    let lines: Vec<String> = (0..20_000).map(line).collect();
    std::fs::write(folder.at("corpus.jsonl"), lines.join("\n")).expect("written");
    folder.arg("corpus.jsonl")
}

#[test]
fn threads_and_batches_change_nothing() {
    let folder = Folder::new();
    let input = corpus(&folder);
    tokenize(&folder, "one", &["--input", &input, "--threads", "1"]);
    tokenize(&folder, "many", &["--input", &input, "--threads", "5", "--batch-bytes", "70000"]);
    assert!(files(&folder, "one") == files(&folder, "many"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let folder = Folder::new();
    let (text, input) = (folder.arg("text.txt"), corpus(&folder));
    let whole = tokenize(&folder, "whole", &["--input", &text, &input]);
    let out = folder.arg("out");
    let args = ["--input", &text, &input, "--tokenizer", "byte", "--out", &out, "--batch-bytes", "3000"];
    let args = [&args[..], &["--save-seconds", "0", "--resume"]].concat();
    let done = || {
        let json = std::fs::read(folder.at("out.done.partial")).ok()?;
        serde_json::from_slice::<Value>(&json).expect("never half a file")["written"]["documents"].as_u64()
    };
    let mut before = 0;
    for _ in 0..3 {
        let mut child =
            program("tokenize").args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let started = Instant::now();
        while done().is_none_or(|documents| documents < before + 200) {
            assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().expect("a state").is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        before = done().expect("something is done");
        assert!(!folder.at("out.idx").exists(), "killed before its end");
        assert!(!left(&folder, "out.bin.partial").is_empty());
    }
    let said = failure("tokenize", &args[..args.len() - 1], 1);
    assert!(said.contains("interrupted run") && said.contains("--resume"), "{said}");
    let said = failure("tokenize", &[&args[..], &["--no-eod"]].concat(), 1);
    assert!(said.contains("--no-eod") && said.contains("another job"), "{said}");
    let swapped = ["--input", &input, &text, "--tokenizer", "byte", "--out", &out, "--resume"];
    assert!(failure("tokenize", &swapped, 1).contains("where there was"));

    let said: Value = serde_json::from_str(&success("tokenize", &[&args[..], &["--json"]].concat())).expect("JSON");
    assert!(files(&folder, "whole") == files(&folder, "out"));
    assert_eq!(said["resumed"], true);
    for key in ["documents", "tokens", "bytes", "empty"] {
        assert_eq!(said[key], whole[key], "{key}");
    }
    assert_eq!(left(&folder, "partial"), [""; 0], "nothing is left over");
    assert!(failure("tokenize", &args, 1).contains("exists already"), "a finished file is not overwritten");
}

#[test]
fn wrong_input_is_told_in_one_sentence() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("out"));
    for (name, content) in [
        ("latin.txt", b"caf\xe9".as_slice()),
        ("bad.jsonl", b"{\"text\": \"x\"}\n{\"text\": "),
        ("list.jsonl", b"[1]\n"),
        ("other.jsonl", b"\n{\"body\": \"x\"}\n"),
        ("number.jsonl", b"{\"text\": 1}\n"),
        ("empty.txt", b""),
        ("utf.jsonl", b"{\"text\": \"\xff\"}"),
    ] {
        std::fs::write(folder.at(name), content).expect("written");
    }
    std::fs::create_dir(folder.at("none")).expect("created");
    let fails = |input: &str, extra: &[&str]| {
        let args = ["--input", &folder.arg(input), "--out", &out];
        let byte: &[&str] = if extra.contains(&"--tokenizer") { &[] } else { &["--tokenizer", "byte"] };
        let said = failure("tokenize", &[&args, extra, byte].concat(), 1);
        assert!(left(&folder, "out").is_empty(), "{said}");
        said
    };
    for (input, words) in [
        ("nothing.txt", "nothing.txt"),
        ("none", "has no files"),
        ("latin.txt", "latin.txt: is not UTF-8, from byte 3"),
        ("bad.jsonl", "bad.jsonl, line 2: is not a JSON object"),
        ("list.jsonl", "line 1: is not a JSON object"),
        ("other.jsonl", "line 2: has no field \"text\""),
        ("number.jsonl", "line 1: has no text in its field \"text\""),
        ("utf.jsonl", "line 1"),
        ("empty.txt", "no text"),
        ("", "lies in the input folder"),
    ] {
        let said = fails(input, &[]);
        assert!(said.contains(words), "{input}: {said}");
    }
    assert!(fails("text.txt", &["--tokenizer", &folder.arg("no.json")]).contains("no.json"));
    assert!(fails("text.txt", &["--tokenizer", &text]).contains("is no tokenizer"));
    let nowhere = ["--input", &text, "--tokenizer", "byte", "--out", "/no/such/folder/x"];
    assert!(failure("tokenize", &nowhere, 1).contains("/no/such/folder/x"));

    // A fault after the first batch keeps what is done; with the fault away it goes on.
    let args = ["--input", &text, &folder.arg("bad.jsonl"), "--tokenizer", "byte", "--out", &out, "--batch-bytes", "1"];
    let args = [&args[..], &["--save-seconds", "0"]].concat();
    let said = failure("tokenize", &args, 1);
    assert!(said.contains("line 2") && said.contains("--resume"), "{said}");
    std::fs::write(folder.at("bad.jsonl"), "{\"text\": \"x\"}\n{\"text\": \"y\"}").expect("written");
    let said = failure("tokenize", &[&args[..], &["--resume"]].concat(), 1);
    assert!(said.contains("bad.jsonl") && said.contains("has changed"), "a part of it is done: {said}");

    assert!(failure("tokenize", &["--input", &text, "--out", &out], 2).contains("--tokenizer"));
    let stdin = ["--input", "-", "--tokenizer", "byte", "--out", &out];
    assert!(failure("tokenize", &[&stdin[..], &["--resume"]].concat(), 2).contains("stdin"));
    assert!(failure("tokenize", &[&stdin[..], &["--dtype", "u64"]].concat(), 2).contains("u32"));
    let lines = ["--split-lines", "--format", "jsonl"];
    assert!(failure("tokenize", &[&stdin[..], &lines].concat(), 2).contains("--split-lines"));
    assert!(success("tokenize", &["--help"]).contains("--batch-bytes"));
}
