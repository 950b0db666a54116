//! `convert`, and the other programs with models of other formats and from a hub.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn program(name: &str) -> Command {
    let test = std::env::current_exe().expect("the test's own path");
    let examples = test.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("examples");
    let path = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    Command::new(path)
}

/// Stdout of a run that must succeed.
fn success(name: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = program(name).args(args).output().expect("the program starts");
    assert!(status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

/// What a run says that must fail with this exit code.
fn failure(args: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = program("convert").args(args).output().expect("the program starts");
    let said = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(code), "{args:?}: {said}");
    assert!(stdout.is_empty() && !said.contains("panicked"), "{said}");
    if code == 1 {
        assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{said:?}");
    }
    said
}

/// A checkpoint among the fixtures of `rwkv-core`.
fn fixture(name: &str) -> String {
    let core = PathBuf::from(env!("CARGO_MANIFEST_DIR")).with_file_name("rwkv-core");
    core.join("tests/fixtures/checkpoints").join(name).to_str().expect("UTF-8").to_owned()
}

fn at(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("UTF-8").to_owned()
}

fn logits(model: &str) -> Vec<f64> {
    let printed = success("logits", &["--model", model, "--tokens", "1,2,3", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    printed["logits"].as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn a_pth_goes_through_every_format_with_the_same_logits() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = fixture("bf16.pth");
    let wanted = logits(&source);
    let mut from = source;
    for (format, kind) in [("official", "pth"), ("hf", "safetensors"), ("rwkv-cpp", "safetensors"), ("hf", "rwkv-cpp")]
    {
        let out = at(&folder, &format!("{format}-of-{kind}"));
        let printed = success("convert", &["--model", &from, "--out", &out, "--format", format, "--json"]);
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON and nothing else");
        assert_eq!(printed["from"], kind, "{printed}");
        assert_eq!(printed["config"]["dim_ffn"], 20, "{printed}");
        let written = std::fs::metadata(printed["out"].as_str().expect("a path")).expect("written");
        assert_eq!(printed["bytes"], written.len());
        for (x, y) in logits(&out).iter().zip(&wanted) {
            assert!((x - y).abs() < 1e-5, "{format}: {x} for {y}");
        }
        from = out;
    }
    let said = success("convert", &["--model", &from, "--out", &at(&folder, "last"), "--dtype", "bf16"]);
    assert!(said.contains("2 layers of width 8"), "{said}");
    assert_eq!(logits(&at(&folder, "last")), wanted, "rounded to bf16 again, the decay is what it was");
}

#[test]
fn wrong_use_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, out) = (fixture("bf16.pth"), at(&folder, "out"));
    assert!(failure(&["--model", &model], 2).contains("--out"));
    assert!(failure(&["--model", &model, "--out", &out, "--format", "onnx"], 2).contains("rwkv-cpp"));
    assert!(failure(&["--model", &model, "--out", &out, "--dtype", "int4"], 2).contains("bf16"));
    assert!(failure(&["--model", &model, "--out", &out, "--context-length", "9"], 2).contains("--format hf"));
    assert!(failure(&["--model", "/no/such/file", "--out", &out], 1).contains("/no/such/file"));
    assert!(failure(&["--model", &model, "--out", "/no/such/folder/x"], 1).contains("/no/such/folder/x"));
    assert!(failure(&["--model", &model, "--out", folder.path().to_str().expect("UTF-8")], 1).contains("is a folder"));
    let said = failure(&["--model", &model, "--out", &out, "--format", "rwkv-cpp", "--dtype", "bf16"], 1);
    assert!(said.contains("bf16") && said.contains("rwkv.cpp"), "{said}");
    for (file, words) in [("os_system.pth", "system"), ("pip.pth", "_strategy"), ("legacy.pth", "before 1.6")] {
        assert!(failure(&["--model", &fixture(file), "--out", &out], 1).contains(words));
    }
    assert!(!Path::new(&out).exists(), "nothing is written");
    let help = success("convert", &["--help"]);
    assert!(help.contains("--backend") && help.contains("--seed") && help.contains("--format"), "{help}");
}

#[cfg(feature = "hub")]
mod hub {
    use super::{Path, at, fixture, program};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// A hub that has `owner/model` with `bf16.pth`.
    fn start() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let file = std::fs::read(fixture("bf16.pth")).expect("the fixture");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let request: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let (status, body) = if request[0].contains("/api/models/owner/model/") {
                    ("200 OK", br#"{"siblings":[{"rfilename":"bf16.pth"}],"sha":"abc"}"#.to_vec())
                } else if request.iter().any(|line| line.eq_ignore_ascii_case("range: bytes=0-0")) {
                    ("206 Partial Content", file[..1].to_vec())
                } else {
                    ("206 Partial Content", file.clone())
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\netag: tag\r\nx-repo-commit: abc\r\ncontent-range: bytes 0-{}/{}\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n",
                    body.len() - 1,
                    file.len(),
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        address
    }

    #[test]
    fn programs_take_a_models_name_on_a_hub() {
        let folder = tempfile::tempdir().expect("a folder");
        let endpoint = start();
        let out = at(&folder, "out.safetensors");
        for args in [
            ["--model", "hf:owner/model", "--tokens", "1,2", "--json"].as_slice(),
            &["--model", "hf:owner/model:bf16.pth", "--out", &out],
        ] {
            let name = if args.contains(&"--out") { "convert" } else { "logits" };
            let output = program(name)
                .args(args)
                .env("HF_ENDPOINT", &endpoint)
                .env("HF_HOME", folder.path().join("home"))
                .output()
                .expect("the program starts");
            let said = String::from_utf8(output.stderr).expect("UTF-8");
            assert!(output.status.success(), "{said}");
            assert_eq!(said.contains("bf16.pth"), name == "logits", "the first download is shown: {said}");
        }
        assert!(Path::new(&out).exists());
    }
}
