//! Running the programs, and a tiny model for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TEXT: &str = "the quick brown fox jumps over the lazy dog; the lazy dog sleeps. ";

/// An example that cargo built beside this test.
pub fn program(name: &str) -> Command {
    let test = std::env::current_exe().expect("the test's own path");
    let examples = test.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("examples");
    let path = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not built: run `cargo test` without --test, or `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

fn output(name: &str, args: &[&str]) -> Output {
    program(name).args(args).output().expect("the program starts")
}

/// Stdout of a run that must succeed.
pub fn success(name: &str, args: &[&str]) -> String {
    let output = output(name, args);
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The one sentence of a run that must fail with this exit code.
pub fn failure(name: &str, args: &[&str], code: i32) -> String {
    let output = output(name, args);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{name} {args:?}: {said}");
    assert!(output.stdout.is_empty(), "{name} {args:?}: nothing goes to stdout");
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    if code == 1 {
        assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{name} {args:?}: {said:?}");
    }
    said
}

/// A folder with a little text in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.at("text.txt"), TEXT.repeat(30)).expect("written");
        folder
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn arg(&self, name: &str) -> String {
        self.at(name).to_str().expect("UTF-8").to_owned()
    }

    /// Trains a tiny model into `run`.
    pub fn train(&self, extra: &[&str]) -> String {
        self.train_for("20", extra)
    }

    /// Trains a tiny model into `run`, for so many steps.
    pub fn train_for(&self, steps: &str, extra: &[&str]) -> String {
        let (text, out) = (self.arg("text.txt"), self.arg("run"));
        let mut args = vec!["--text", &text, "--out", &out, "--n-layer", "2", "--n-embd", "32", "--ctx-len", "16"];
        args.extend(["--steps", steps, "--batch-size", "4", "--warmup-steps", "2", "--lr-init", "1e-2", "--json"]);
        args.extend(["--save-every", "10", "--log-every", "5"]);
        args.extend(extra);
        success("train", &args)
    }
}
