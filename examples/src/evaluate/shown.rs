//! How far an evaluation has come, and its result for people.

use indicatif::{ProgressBar, ProgressStyle};
use rwkv_eval::report::Evaluation;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Lines come no closer than this where there is no bar.
const SPACING: Duration = Duration::from_secs(10);

/// A bar on a terminal, and plain lines elsewhere.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Shown {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:32} request {pos}/{len}  {per_sec}  [{elapsed} < {eta}]");
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => Some(ProgressBar::new(0).with_style(style)),
            _ => None,
        };
        Self { bar, last: Instant::now() }
    }

    pub(super) fn at(&mut self, done: usize, all: usize) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            }
            None if self.last.elapsed() >= SPACING || done == all => {
                eprintln!("request {done}/{all}");
                self.last = Instant::now();
            }
            None => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Tasks and metrics with their standard errors, and the speed.
pub(super) fn table(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{:<16} {:>7} {:<10} {:>6} {:<10} {:>12}   standard error",
        "task", "version", "split", "shots", "metric", "value"
    );
    for (task, metrics) in &evaluation.results {
        let values = metrics.iter().filter(|(name, _)| !name.ends_with("_stderr"));
        for (name, value) in values {
            let error = metrics.get(&format!("{name}_stderr"));
            let error = error.map_or_else(|| "   –".to_owned(), |error| format!(" ± {error:.4}"));
            let (version, shots) = (evaluation.versions[task], evaluation.n_shot[task]);
            let split = &evaluation.settings.splits[task];
            text += &format!("\n{task:<16} {version:>7} {split:<10} {shots:>6} {name:<10} {value:>12.4}  {error}");
        }
        let samples = evaluation.n_samples[task];
        if samples.effective < samples.original {
            text += &format!("\n{:16} the first {} of {} documents", "", samples.effective, samples.original);
        }
        if samples.truncated > 0 {
            text += &format!("\n{:16} {} requests lost their beginning", "", samples.truncated);
        }
    }
    let speed = &evaluation.speed;
    let now = speed.requests - speed.resumed;
    let share = now as f64 / speed.requests.max(1) as f64;
    let rate = |count: f64| count / speed.seconds.max(1e-9);
    text += &format!(
        "\n\ncontext start {}; {:.1} samples/s, {:.1} requests/s in {:.1} s; {} tokens read for {} asked",
        evaluation.settings.context_start,
        rate(speed.samples as f64 * share),
        rate(now as f64),
        speed.seconds,
        speed.tokens_read,
        speed.tokens_asked,
    );
    if speed.resumed > 0 {
        text += &format!("; {} requests were answered before", speed.resumed);
    }
    text
}
