//! Runs that end when nobody expected it: killed, asked to stop, out of space, without their peers.

use crate::support::{Folder, failure, program, success};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: &str = "60";

/// The flags of the run, but for where it goes.
fn flags(folder: &Folder) -> Vec<String> {
    let text = folder.arg("text.txt");
    let flags = ["--text", &text, "--n-layer", "2", "--n-embd", "32", "--ctx-len", "16", "--batch-size", "4"];
    let more = ["--steps", STEPS, "--save-every", "3", "--keep", "2", "--log-every", "1", "--lr-init", "1e-2"];
    let sets = ["--set", "train.dropout=0.1", "--set", "train.ema_decay=0.9", "--val-every", "20"];
    flags.iter().chain(&more).chain(&sets).map(ToString::to_string).collect()
}

fn start(args: &[String]) -> Child {
    program("train").args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Killed at twenty moments and resumed every time, a run ends with the weights of one that was left alone.
#[test]
fn a_run_that_is_killed_twenty_times_ends_as_if_it_had_not_been() {
    let folder = Folder::new();
    let flags = flags(&folder);
    let began = Instant::now();
    let with = |out: &str| [&flags[..], &["--out".to_owned(), folder.arg(out)]].concat();
    assert!(start(&with("whole")).wait().expect("it ends").success());
    let whole = began.elapsed();
    let (mut kills, mut moment) = (0, 1);
    let mut args = with("killed");
    loop {
        let mut child = start(&args);
        if kills < 20 {
            // Moments spread over the length of a whole run by the golden ratio, the same in every test.
            let share = (f64::from(moment) * 0.618_033_988_749_895).fract();
            moment += 1;
            std::thread::sleep(whole.mul_f64(0.02 + 0.6 * share));
            if child.try_wait().expect("it can be asked").is_none() {
                signal(&child, "-KILL");
                kills += 1;
            }
        }
        let status = child.wait().expect("it ends");
        if status.success() && kills >= 20 {
            break;
        }
        if status.success() {
            // Done before the twentieth: again from an early checkpoint, which is as good a place to be killed.
            let run = folder.at("killed");
            std::fs::remove_dir_all(&run).expect("removed");
            args = with("killed");
            continue;
        }
        args = match folder.at("killed").join("config.toml").exists() {
            true => vec!["--resume".to_owned(), folder.arg("killed")],
            // Killed before there was a run.
            false => with("killed"),
        };
    }
    println!("killed {kills} times, a whole run takes {whole:?}");
    for file in ["model.safetensors", "average.model.safetensors", "step-000060/optimizer.safetensors"] {
        assert!(bytes(&folder.at("whole").join(file)) == bytes(&folder.at("killed").join(file)), "{file} differs");
    }
    let losses = |run: &str| -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(folder.at(run).join("metrics.jsonl")).expect("metrics");
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines().map(row).map(|row| (row["step"].as_u64().expect("step"), row["loss"].to_string())).collect()
    };
    assert_eq!(losses("whole"), losses("killed"));
}

#[test]
fn a_run_that_is_asked_to_stop_saves_and_can_go_on() {
    for name in ["-INT", "-TERM"] {
        let folder = Folder::new();
        let args = [&flags(&folder)[..], &["--steps".to_owned(), "1000000".to_owned()]].concat();
        let args: Vec<String> = {
            // The flag may stand once only.
            let mut args = args;
            let first = args.iter().position(|arg| arg == "--steps").expect("there");
            args.drain(first..first + 2);
            [args, vec!["--out".to_owned(), folder.arg("run")]].concat()
        };
        let child = start(&args);
        let metrics = folder.at("run").join("metrics.jsonl");
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::fs::metadata(&metrics).map(|file| file.len()).unwrap_or(0) < 500 {
            assert!(Instant::now() < deadline, "it never begins");
            std::thread::sleep(Duration::from_millis(10));
        }
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("--resume"), "{name}: {said}");
        let rows = std::fs::read_to_string(&metrics).expect("metrics");
        let last = rows.lines().last().expect("rows");
        let step = serde_json::from_str::<serde_json::Value>(last).expect("JSON")["step"].as_u64().expect("step");
        assert!(folder.at("run").join(format!("step-{step:06}")).exists(), "the last step is saved");
    }
}

/// Two processes of two threads are four workers, and learn what one with the whole batch learns.
#[test]
fn processes_and_threads_train_together() {
    let folder = Folder::new();
    let text = folder.arg("text.txt");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let rendezvous = format!("127.0.0.1:{port}");
    let run = |out: &str, batch: &str, more: &[&str]| -> Vec<String> {
        let out = folder.arg(out);
        let flags = ["--text", &text, "--n-layer", "2", "--n-embd", "32", "--ctx-len", "16", "--steps", "10"];
        let rest = ["--batch-size", batch, "--log-every", "1", "--out", &out, "--patience", "60"];
        flags.iter().chain(&rest).chain(more).map(ToString::to_string).collect()
    };
    let alone = success("train", &run("alone", "8", &[]).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(alone.contains("step 10"));
    let of_node = |rank: &'static str| {
        let more = ["--workers", "2", "--nodes", "2", "--node-rank", rank, "--rendezvous", &rendezvous];
        start(&run("together", "2", &more))
    };
    let (first, second) = (of_node("0"), of_node("1"));
    for child in [first, second] {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let losses = |run: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(folder.at(run).join("metrics.jsonl")).expect("metrics");
        let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["loss"].as_f64();
        text.lines().map(|line| loss(line).expect("a number")).collect()
    };
    let (alone, together) = (losses("alone"), losses("together"));
    let error = alone.iter().zip(&together).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    println!("largest difference of a loss over ten steps: {error:.1e}");
    assert!(alone.len() == 10 && together.len() == 10 && error < 1e-4, "{alone:?} {together:?}");
}

/// A killed process ends the other with a sentence and a checkpoint from which the run goes on.
#[test]
fn a_lost_process_leaves_a_run_that_can_go_on() {
    let folder = Folder::new();
    let text = folder.arg("text.txt");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let rendezvous = format!("127.0.0.1:{port}");
    let out = folder.arg("run");
    let of_node = |rank: &str| {
        let flags = ["--text", &text, "--n-layer", "1", "--n-embd", "16", "--ctx-len", "16", "--steps", "1000000"];
        let rest = ["--batch-size", "2", "--log-every", "1", "--out", &out, "--patience", "20", "--save-every", "0"];
        let more = ["--nodes", "2", "--node-rank", rank, "--rendezvous", &rendezvous];
        start(&flags.iter().chain(&rest).chain(&more).map(ToString::to_string).collect::<Vec<_>>())
    };
    let (first, second) = (of_node("0"), of_node("1"));
    let metrics = folder.at("run").join("metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&metrics).map(|file| file.len()).unwrap_or(0) < 500 {
        assert!(Instant::now() < deadline, "it never begins");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&second, "-KILL");
    second.wait_with_output().expect("killed");
    let output = first.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: lost worker 1 of 2"), "{said}");
    let saved = std::fs::read_dir(folder.at("run"))
        .expect("the run")
        .filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with("step-"));
    assert_eq!(saved.count(), 1, "the one that is left saved");
}

#[test]
fn odd_numbers_of_workers_are_refused_in_one_sentence() {
    let folder = Folder::new();
    let (text, out) = (folder.arg("text.txt"), folder.arg("out"));
    let fails = |extra: &[&str]| failure("train", &[&["--text", &text, "--out", &out][..], extra].concat(), 1);
    assert!(fails(&["--workers", "0"]).contains("at least one"));
    assert!(fails(&["--nodes", "2", "--node-rank", "2"]).contains("node rank 2"));
    assert!(fails(&["--nodes", "2", "--patience", "1", "--rendezvous", "127.0.0.1:0"]).len() > 10);
    assert!(fails(&["--set", "train.stepz=3"]).contains("did you mean `steps`?"));
    assert!(fails(&["--preset", "rwkv4-1m"]).contains("rwkv4-169m"));
}
