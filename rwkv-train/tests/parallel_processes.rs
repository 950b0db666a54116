//! Several workers as processes on the loopback interface: this test program starts itself.
#![cfg(feature = "flex")]

mod support;

use rwkv_train::error::{Error as TrainError, Result};
use rwkv_train::parallel::{self, Error, Nodes, Worker, run};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use support::{B, bits, largest_difference, train};

/// Longer than any test here takes, so that a hang fails instead of lasting.
const DEADLINE: Duration = Duration::from_secs(120);

/// One process of a test.
#[derive(Clone)]
struct Task {
    nodes: Nodes,
    threads: usize,
    patience: Duration,
    /// Who stops working after the first step, and lives on.
    silent: Option<usize>,
}

impl Task {
    fn new(count: usize, rank: usize, port: u16) -> Self {
        let nodes = Nodes { count, rank, rendezvous: format!("127.0.0.1:{port}") };
        Self { nodes, threads: 1, patience: DEADLINE, silent: None }
    }

    fn start(&self) -> Process {
        let Nodes { count, rank, rendezvous } = &self.nodes;
        let silent = self.silent.map_or("nobody".to_owned(), |rank| rank.to_string());
        let task = format!("{count} {rank} {rendezvous} {} {} {silent}", self.threads, self.patience.as_millis());
        let mut child = Command::new(std::env::current_exe().expect("a test program"))
            .args(["--exact", "process", "--nocapture"])
            .env("RWKV_PARALLEL_TASK", task)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs already");
        let lines = lines(child.stdout.take().expect("piped"));
        Process { child, lines }
    }
}

struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// The rest of the next line that begins so.
    fn wait_for(&self, beginning: &str) -> String {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => match line.strip_prefix(beginning) {
                    Some(rest) => return rest.trim().to_owned(),
                    None => said.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("the process hangs before it says {beginning}: {said:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the process ended before {beginning}: {said:?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

/// A port that nobody listens on, of those that no system gives away on its own meanwhile.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 1_000) as u16 * 20;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Not a test of its own: what the processes of the others do.
#[test]
fn process() {
    let Ok(task) = std::env::var("RWKV_PARALLEL_TASK") else { return };
    let words: Vec<&str> = task.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    let nodes = Nodes { count: number(0) as usize, rank: number(1) as usize, rendezvous: words[2].to_owned() };
    let (devices, patience) = (vec![Default::default(); number(3) as usize], Duration::from_millis(number(4)));
    let silent = words[5].parse::<usize>().ok();
    let between = |step: usize, worker: &Worker| {
        // A line of its own, whatever the test harness has written.
        println!("\nDONE {step}");
        if silent == Some(worker.rank()) {
            std::thread::sleep(2 * DEADLINE);
        }
    };
    let outcome = parallel::workers::<B>(&devices, Some(&nodes), patience)
        .map_err(TrainError::from)
        .and_then(|workers| run(workers, |worker| train(worker, between)));
    print!("{}", report(&outcome));
}

fn report(outcome: &Result<Vec<Vec<f32>>>) -> String {
    match outcome {
        Ok(weights) => {
            assert!(weights.iter().all(|other| bits(other) == bits(&weights[0])), "threads differ");
            let words: Vec<String> = weights[0].iter().map(|weight| format!("{:08x}", weight.to_bits())).collect();
            format!("\nWEIGHTS {}\n", words.join(" "))
        }
        Err(TrainError::Parallel(error)) => {
            let (kind, ranks) = match error {
                Error::LostPeer { ranks, .. } => ("lost", ranks.clone()),
                Error::NeverCame { missing, .. } => ("never came", missing.clone()),
                Error::Refused { .. } => ("refused", vec![]),
                _ => ("other", vec![]),
            };
            format!("\nERROR {kind} {ranks:?} heir {:?}: {error}\n", error.heir())
        }
        Err(error) => format!("\nERROR other: {error}\n"),
    }
}

fn weights(process: &Process) -> Vec<f32> {
    let words = process.wait_for("WEIGHTS");
    words.split(' ').map(|word| f32::from_bits(u32::from_str_radix(word, 16).expect("hexadecimal"))).collect()
}

#[test]
fn processes_train_like_one_device() {
    let alone = train(&mut Worker::alone(), |_, _| {}).expect("alone");
    for (count, threads) in [(2, 1), (4, 1), (2, 2)] {
        if threads > 1 && !cfg!(feature = "collective") {
            continue;
        }
        let train = || {
            let port = port();
            let start = |rank| Task { threads, ..Task::new(count, rank, port) }.start();
            // The first process comes last: the others wait for it.
            let processes: Vec<Process> = (0..count).rev().map(start).collect();
            processes.iter().map(weights).collect::<Vec<_>>()
        };
        let all = train();
        let error = largest_difference(&all[0], &alone);
        println!("{count} processes of {threads} threads: largest difference of a weight {error:.1e}");
        assert!(error < 1e-6, "{count} processes: {error:.1e}");
        assert!(all.iter().all(|other| bits(other) == bits(&all[0])), "{count} processes: the models are equal");
        assert_eq!(bits(&train()[0]), bits(&all[0]), "{count} processes: a run repeats itself");
    }
}

/// Processes of which the one of rank `victim` does the first step and no more.
fn with_a_victim(count: usize, threads: usize, victim: usize, patience: Duration) -> Vec<Process> {
    let (port, silent) = (port(), Some(victim * threads));
    let start = |rank| Task { threads, patience, silent, ..Task::new(count, rank, port) }.start();
    let processes: Vec<Process> = (0..count).map(start).collect();
    processes[victim].wait_for("DONE 0");
    processes
}

#[test]
fn a_killed_process_ends_the_others() {
    let mut worlds = vec![
        (2, 1, 1, "lost [1] heir Some(0): lost worker 1 of 2:"),
        (4, 1, 2, "lost [2] heir Some(0): lost worker 2 of 4:"),
        (3, 1, 0, "lost [0] heir Some(1): lost worker 0 of 3:"),
    ];
    if cfg!(feature = "collective") {
        worlds.push((3, 2, 1, "lost [2, 3] heir Some(0): lost workers 2 and 3 of 6:"));
        worlds.push((2, 2, 0, "lost [0, 1] heir Some(2): lost workers 0 and 1 of 4:"));
    }
    for (count, threads, victim, expected) in worlds {
        let mut processes = with_a_victim(count, threads, victim, DEADLINE);
        processes[victim].child.kill().expect("it lives");
        for rank in (0..count).filter(|rank| *rank != victim) {
            let error = processes[rank].wait_for("ERROR");
            println!("{rank}: {error}");
            assert!(error.starts_with(expected) && error.ends_with("it closed the connection"), "{error}");
        }
    }
}

#[test]
fn a_silent_process_is_given_up() {
    for victim in [1, 0] {
        let processes = with_a_victim(3, 1, victim, Duration::from_secs(3));
        for rank in (0..3).filter(|rank| *rank != victim) {
            let error = processes[rank].wait_for("ERROR");
            println!("{rank}: {error}");
            assert!(error.starts_with(&format!("lost [{victim}]")), "{error}");
            assert!(error.contains("it was silent for too long"), "{error}");
        }
    }
}

#[test]
fn a_process_that_never_comes_is_named() {
    let port = port();
    let patience = Duration::from_secs(2);
    let start = |rank| Task { patience, ..Task::new(4, rank, port) }.start();
    let processes = [start(0), start(2)];
    for process in &processes {
        let error = process.wait_for("ERROR");
        println!("{error}");
        assert!(error.starts_with("never came [1, 3]"), "{error}");
        assert!(error.contains("for 4 processes and only 2 came, without nodes 1 and 3"), "{error}");
    }
    // Nobody at the rendezvous.
    let nodes = Nodes { count: 2, rank: 1, rendezvous: format!("127.0.0.1:{}", self::port()) };
    let error = parallel::workers::<B>(&[Default::default()], Some(&nodes), Duration::from_millis(300)).err();
    assert!(matches!(&error, Some(Error::NeverCame { missing, .. }) if missing == &[0]), "{error:?}");
}

#[test]
fn processes_that_do_not_fit_are_refused() {
    let refused = |other: &dyn Fn(Task) -> Task| {
        let port = port();
        let processes = [Task::new(2, 0, port).start(), other(Task::new(2, 1, port)).start()];
        for process in &processes {
            let error = process.wait_for("ERROR");
            println!("{error}");
            assert!(error.starts_with("refused"), "{error}");
        }
    };
    refused(&|task| Task { nodes: Nodes { count: 3, ..task.nodes }, ..task });
    if cfg!(feature = "collective") {
        refused(&|task| Task { threads: 2, ..task });
    }
}

#[test]
fn two_processes_of_one_rank_are_refused() {
    let port = port();
    let processes: Vec<Process> = [0, 1, 1].map(|rank| Task::new(3, rank, port).start()).into();
    for process in &processes {
        let error = process.wait_for("ERROR");
        assert!(error.contains("two processes say that they are node 1"), "{error}");
    }
}

#[test]
fn strangers_do_not_disturb_the_rendezvous() {
    let port = port();
    let first = Task::new(2, 0, port).start();
    let connect = || loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            return stream;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    connect().write_all(b"GET / HTTP/1.1\r\nHost: somebody.else\r\n\r\n").expect("somebody listens");
    drop(connect());
    let second = Task::new(2, 1, port).start();
    assert_eq!(bits(&weights(&first)), bits(&weights(&second)));
}

#[test]
fn a_foreign_service_at_the_rendezvous_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let rendezvous = listener.local_addr().expect("bound").to_string();
    let service = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a visitor");
        stream.write_all(b"220 mail.example.org ESMTP ready when you are\r\n").expect("it listens");
        stream
    });
    let nodes = Nodes { count: 2, rank: 1, rendezvous };
    let error = parallel::workers::<B>(&[Default::default()], Some(&nodes), DEADLINE).err();
    assert!(matches!(error, Some(Error::Refused { .. })), "{error:?}");
    drop(service.join());
}

#[test]
fn unusable_addresses_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let taken = listener.local_addr().expect("bound").to_string();
    for (rank, rendezvous) in [(0, taken), (0, "nonsense".to_owned()), (1, "nonsense".to_owned())] {
        let nodes = Nodes { count: 2, rank, rendezvous: rendezvous.clone() };
        let error = parallel::workers::<B>(&[Default::default()], Some(&nodes), Duration::from_millis(300)).err();
        assert!(matches!(&error, Some(Error::Address { address, .. }) if *address == rendezvous), "{error:?}");
    }
}
