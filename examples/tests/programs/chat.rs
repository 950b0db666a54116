//! The chat program as a person or a script runs it.

use crate::support::program;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// What the tiny model learns: two questions, each with its answer.
const TEXT: &str = "User: hi\n\nAssistant: hello\n\nUser: bye\n\nAssistant: so long\n\n";

/// A folder with a model that has learnt [`TEXT`].
struct Trained(tempfile::TempDir);

impl Trained {
    fn new(steps: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.at("text.txt"), TEXT.repeat(40)).expect("written");
        let (text, run) = (folder.arg("text.txt"), folder.arg("run"));
        let sizes = ["--n-layer", "2", "--n-embd", "32", "--ctx-len", "64", "--batch-size", "4", "--tokenizer", "byte"];
        let recipe = ["--steps", steps, "--warmup-steps", "2", "--lr-init", "1e-2", "--json"];
        let output = program("train").args(["--text", &text, "--out", &run]).args(sizes).args(recipe).output();
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.at(name).to_str().expect("UTF-8").to_owned()
    }

    fn run(&self, args: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut chat = program("chat")
            .args(["--model", &self.arg("run")])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // The program may end before it has read everything.
        let _ = chat.stdin.take().expect("piped").write_all(input.as_ref());
        chat.wait_with_output().expect("the program ends")
    }

    /// Stdout of a conversation that must succeed.
    fn says(&self, args: &[&str], input: &str) -> String {
        let output = self.run(&[&["--prompt-format", "world"], args].concat(), input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A conversation that always takes the most probable token.
    fn greedy(&self, input: &str) -> String {
        self.says(
            &[
                "--temperature",
                "0",
                "--no-newline-bias",
                "--max-tokens",
                "40",
                "--alpha-presence",
                "0",
                "--alpha-frequency",
                "0",
            ],
            input,
        )
    }

    /// What each line prints in a conversation with random draws, the same ones every time.
    fn random(&self, args: &[&str], lines: &[&str]) -> Vec<String> {
        let settings = ["--temperature", "1", "--top-p", "1", "--max-tokens", "40"];
        // Replies may have several lines: a command with a known answer stands between them.
        let help = self.says(&[], "/help\n");
        let input: String = lines.iter().map(|line| format!("{line}\n/help\n")).collect();
        let printed = self.says(&[&settings[..], args].concat(), &input);
        let mut printed: Vec<String> = printed.split(&help).map(str::to_owned).collect();
        assert_eq!(printed.pop().as_deref(), Some(""), "nothing comes after the last command");
        assert_eq!(printed.len(), lines.len(), "{printed:?}");
        printed
    }

    /// The one sentence of a run that must fail with this exit code.
    fn fails(&self, args: &[&str], input: impl AsRef<[u8]>, code: i32) -> String {
        let output = self.run(args, input);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        if code == 1 {
            assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{args:?}: {said:?}");
        }
        said
    }
}

#[test]
fn a_trained_model_answers_what_it_learnt() {
    let folder = Trained::new("200");
    assert_eq!(folder.greedy("hi\n"), "hello\n");
    assert_eq!(folder.greedy("bye\nhi\n \nbye"), "so long\nhello\nso long\n", "an empty line says nothing");
    assert_eq!(folder.greedy("hi\r\nbye\r\n"), "hello\nso long\n");
    assert_eq!(folder.greedy("hi\n/retry\n/retry\nbye\n"), "hello\nhello\nhello\nso long\n");
    assert_eq!(folder.greedy("hi\n/quit\nbye\n"), "hello\n");
    assert_eq!(folder.greedy(""), "");
}

#[test]
fn retries_forks_and_saved_states_are_exact() {
    let folder = Trained::new("20");
    let random = |lines: &[&str]| folder.random(&["--seed", "3"], lines);
    let plain = random(&["hi", "bye", "hi"]);
    assert_eq!(random(&["hi", "bye", "hi"]), plain, "the seed decides");
    assert_ne!(folder.random(&["--seed", "4"], &["hi", "bye", "hi"]), plain);

    // A retry draws anew, as if the first reply had never been.
    let retried = random(&["hi", "/retry", "bye"]);
    assert_eq!(retried[0], plain[0]);
    assert_eq!(retried[1..], folder.random(&["--seed", "4"], &["hi", "bye"]));
    assert_ne!(retried[1], retried[0]);

    // Whatever is said elsewhere, a conversation goes on as if alone; a fork begins where it was forked.
    let forked = random(&[
        "hi",
        "/fork b",
        "bye",
        "/fork c",
        "/retry",
        "what?",
        "/switch main",
        "bye",
        "/switch b",
        "hi",
        "/switch main",
        "hi",
    ]);
    assert_eq!([&forked[0], &forked[7], &forked[11]], [&plain[0], &plain[1], &plain[2]]);
    assert_eq!([&forked[2], &forked[9]], [&plain[1], &plain[2]]);
    assert_eq!(random(&["/fork b", "/fork a", "/switch b", "/switch b", "/switch"])[4], "  a\n* b\n  main\n");

    // A beginning is a beginning.
    assert_eq!(random(&["hi", "/retry", "/reset", "hi", "bye"])[3..], plain[..2]);

    // What was saved goes on elsewhere as it goes on here; a loaded conversation counts its replies from 0.
    let state = folder.arg("state.safetensors");
    let (save, load) = (format!("/save {state}"), format!("/load {state}"));
    let saved = random(&["hi", &save, "bye", "hi"]);
    assert_eq!([&saved[0], &saved[2], &saved[3]], [&plain[0], &plain[1], &plain[2]], "saving changes nothing");
    assert_eq!(folder.random(&["--seed", "4", "--load-state", &state], &["bye", "hi"]), plain[1..]);
    assert_eq!(folder.random(&["--seed", "4"], &["what?", &load, "bye", "hi"])[2..], plain[1..]);
    let reset = folder.random(&["--seed", "4", "--load-state", &state], &["what?", "/reset", "bye", "hi"]);
    assert_eq!(reset[2..], plain[1..], "/reset goes back to --load-state");
}

#[test]
fn the_model_reads_the_introduction_and_the_message() {
    let folder = Trained::new("20");
    let hi = |args: &[&str]| folder.random(&[&["--seed", "1"], args].concat(), &["hi", "bye"]);
    std::fs::write(folder.at("none.txt"), "\n").expect("written");
    std::fs::write(folder.at("other.txt"), "The two are friends.\n\nUser: bye\n\nAssistant: so long").expect("written");
    let (none, other) = (folder.arg("none.txt"), folder.arg("other.txt"));
    let (usual, none, other) = (hi(&[]), hi(&["--introduction", &none]), hi(&["--introduction", &other]));
    assert!(usual != none && none != other && usual != other, "{usual:?} {none:?} {other:?}");

    let says = |line: &str| folder.random(&["--seed", "1"], &[line, "bye"]);
    assert_eq!(says(r"one\n\ntwo"), says(r" one\ntwo "), "\\n begins a line, and no line is empty");
    assert_ne!(says(r"one\ntwo"), says("one two"));
}

#[test]
fn what_goes_wrong_first_ends_a_script_in_one_sentence() {
    let folder = Trained::new("20");
    let (run, text) = (folder.arg("run"), folder.arg("text.txt"));
    let world = ["--prompt-format", "world"];
    let fails = |input: &str| folder.fails(&world, input, 1);
    assert!(fails("/dance\n").contains("/dance"));
    assert!(fails("/retry\n").contains("retry"));
    assert!(fails("/fork\n").contains("a name"));
    assert!(fails("/fork main\n").contains("main"));
    assert!(fails("/fork a\n/switch main\n/fork a\n").contains("\"a\""));
    assert!(fails("/switch nowhere\n").contains("nowhere"));
    assert!(fails("/save\n").contains("a file"));
    assert!(fails("/save /no/such/folder/state\n").contains("/no/such/folder/state"));
    assert!(fails("/load /no/such/state\n").contains("/no/such/state"));
    assert!(fails(&format!("/load {text}\n")).contains("text.txt"));
    assert!(fails("/reset now\n").contains("now"));
    assert!(folder.fails(&world, b"\xff\xfe\n", 1).contains("stdin"));

    assert!(folder.fails(&[], "hi\n", 1).contains("--prompt-format"), "256 tokens are nobody's vocabulary");
    assert!(folder.fails(&["--prompt-format", "alpaca"], "hi\n", 2).contains("raven-instruct"));
    let with = |args: &[&str]| folder.fails(&[&world[..], args].concat(), "hi\n", 1);
    assert!(with(&["--tokenizer", "/no/such/tokenizer"]).contains("/no/such/tokenizer"));
    assert!(with(&["--tokenizer", &text]).contains("text.txt"));
    assert!(with(&["--temperature=-1"]).contains("temperature"));
    assert!(with(&["--top-p", "2"]).contains("top_p"));
    assert!(with(&["--load-state", &text]).contains("text.txt"));
    assert!(with(&["--introduction", "/no/such/text"]).contains("/no/such/text"));
    let vocabulary: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    std::fs::write(folder.at("world.txt"), vocabulary).expect("written");
    let said = with(&["--tokenizer", &folder.arg("world.txt")]);
    assert!(said.contains("257") && said.contains("256"), "id 0 is one more than the model has: {said}");
    assert!(folder.fails(&["--model", &run], "", 2).contains("--model"), "given twice");

    // A closed vocabulary that lacks a letter of the introduction says what to do.
    let chars = folder.arg("chars");
    let args = ["--text", &text, "--out", &chars, "--n-layer", "1", "--n-embd", "8", "--ctx-len", "16", "--steps", "1"];
    assert!(program("train").args(args).output().expect("the program starts").status.success());
    let output = program("chat").args(["--model", &chars]).args(world).stdin(Stdio::null()).output();
    let said = String::from_utf8(output.expect("the program starts").stderr).expect("UTF-8");
    assert!(said.contains("introduction") && said.contains("--introduction FILE"), "{said}");
}
