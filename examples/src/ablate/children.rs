//! Runs side by side, a process each: Burn's autodiff is not safe between threads of one process.
//!
//! A child reads its configuration from its standard input, which then stays open as long as it may train: when it closes, on
//! purpose or because the parent died, the child stops after the step at hand with a checkpoint.

use super::runs::Run;
use crate::train::Jobs;
use crate::{Backend, Failure};
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::config::RunConfig;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hidden flag that makes this program a child.
pub(super) const FLAG: &str = "--train-into";
/// In a run's folder: whoever holds it trains there.
const LOCK_FILE: &str = ".lock";
/// Between the configuration and what never comes.
const END: u8 = 0;

/// How many at once, and how.
pub(super) struct Pool<'a> {
    pub jobs: usize,
    /// Threads of each.
    pub threads: usize,
    pub backend: Backend,
    /// Ends all of them with a checkpoint once it is up.
    pub stop: &'a AtomicBool,
}

/// What is heard of a run, by its place in the list.
pub(super) enum News {
    Began(usize),
    Step(usize, usize),
    Ended(usize, Result<(), String>),
}

impl Pool<'_> {
    /// Trains the runs. An error of `hear` stops them all.
    pub(super) fn train(
        &self,
        runs: &[&Run],
        mut hear: impl FnMut(News) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (next, (sender, receiver)) = (AtomicUsize::new(0), channel());
        let jobs = self.jobs.min(runs.len());
        let inputs: Vec<Mutex<Option<ChildStdin>>> = (0..jobs).map(|_| Mutex::new(None)).collect();
        let mut heard = Ok(());
        std::thread::scope(|scope| {
            for input in &inputs {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while !self.stop.load(Ordering::Relaxed)
                        && let i = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(run) = runs.get(i)
                    {
                        // Nobody listens any more only after an error, which has raised the flag.
                        let _ = sender.send(News::Began(i));
                        let ended = self.one(run, i, input, &sender);
                        let _ = sender.send(News::Ended(i, ended));
                    }
                });
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(Duration::from_millis(50)) {
                    // After a stop an end is no news.
                    Ok(News::Ended(_, Err(_))) if self.stop.load(Ordering::Relaxed) => {}
                    Ok(news) if heard.is_ok() => {
                        heard = hear(news);
                        if heard.is_err() {
                            self.stop.store(true, Ordering::Relaxed);
                        }
                    }
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if self.stop.load(Ordering::Relaxed) {
                    for input in &inputs {
                        drop(input.lock().unwrap_or_else(PoisonError::into_inner).take());
                    }
                }
            }
        });
        heard
    }

    /// A child from its birth to its end: the sentence with which it failed.
    fn one(&self, run: &Run, i: usize, input: &Mutex<Option<ChildStdin>>, sender: &Sender<News>) -> Result<(), String> {
        let mut child = self.spawn(run).map_err(|error| format!("cannot be started: {error}"))?;
        let mut stdin = child.stdin.take().ok_or("has no input")?;
        let sent = stdin.write_all(run.config.to_toml().as_bytes()).and_then(|()| stdin.write_all(&[END]));
        let sent = sent.and_then(|()| stdin.flush());
        *input.lock().unwrap_or_else(PoisonError::into_inner) = Some(stdin);
        let mut last = String::new();
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if let Some(step) = step_of(&line) {
                    let _ = sender.send(News::Step(i, step));
                } else if !line.is_empty() && !last.starts_with("error: ") {
                    last = line;
                }
            }
        }
        let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
        drop(input.lock().unwrap_or_else(PoisonError::into_inner).take());
        match (status.success(), last.strip_prefix("error: ")) {
            (true, _) => sent.map_err(|error| format!("cannot be told its configuration: {error}")),
            (false, Some(sentence)) => Err(sentence.to_owned()),
            (false, None) => Err(format!("its process ended early ({status}); its last line: {last:?}")),
        }
    }

    fn spawn(&self, run: &Run) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(FLAG).arg(&run.folder).args(["--backend", self.backend.name()]);
        let threads = self.threads.to_string();
        // Rayon's count is that of Flex, its products and the native kernels; the other is that of NdArray's products.
        command.env("RAYON_NUM_THREADS", &threads).env("MATMUL_NUM_THREADS", &threads);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C on a terminal is for the parent, which then closes the inputs.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    }
}

/// The step in a line of progress, `step 20/500  loss …`.
fn step_of(line: &str) -> Option<usize> {
    line.strip_prefix("step ")?.split_once('/')?.0.parse().ok()
}

/// The child's part.
pub(super) fn train_one<B: RwkvAutodiffBackend>(
    folder: &Path,
    backend: Backend,
    device: &B::Device,
) -> Result<(), Failure> {
    let mut input = BufReader::new(std::io::stdin());
    let mut text = Vec::new();
    input.read_until(END, &mut text)?;
    if text.pop() != Some(END) {
        return Err(Failure(format!("{FLAG} is for this program itself, which says on stdin what to train")));
    }
    let config = RunConfig::from_toml(std::str::from_utf8(&text)?).map_err(Failure)?;
    let jobs = Jobs::new(backend)?;
    let stop = jobs.stop().clone();
    std::thread::spawn(move || {
        // It ends when the parent closes it, or with the parent.
        let _ = input.read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    });
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    // A child of a parent that was killed may still be saving its checkpoint.
    let lock_file = folder.join(LOCK_FILE);
    let lock = File::create(&lock_file).map_err(Error::io("write", &lock_file))?;
    lock.lock().map_err(Error::io("lock", &lock_file))?;
    jobs.finish::<B>(&config, folder, device)?;
    Ok(())
}
