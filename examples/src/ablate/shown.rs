//! Progress of a study on stderr: one bar over the steps of all runs on a terminal, a line a run elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use rwkv_train::eta::in_words;
use std::io::IsTerminal;
use std::time::Instant;

/// Shows how far a study has come.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    /// Steps done of each run, and to be done.
    steps: Vec<(usize, usize)>,
    ended: usize,
    started: Instant,
}

impl Shown {
    /// For runs of so many steps.
    pub(super) fn new(steps: impl IntoIterator<Item = usize>) -> Self {
        let steps: Vec<(usize, usize)> = steps.into_iter().map(|steps| (0, steps)).collect();
        let style = ProgressStyle::with_template("{bar:32} {msg}  [{elapsed} < {eta}]");
        let total = steps.iter().map(|(_, steps)| *steps as u64).sum();
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => Some(ProgressBar::new(total).with_style(style)),
            _ => None,
        };
        let shown = Self { bar, steps, ended: 0, started: Instant::now() };
        shown.update();
        shown
    }

    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    pub(super) fn step(&mut self, run: usize, step: usize) {
        self.steps[run].0 = step;
        self.update();
    }

    /// A run came to its end, good or bad.
    pub(super) fn ended(&mut self, run: usize, line: &str) {
        self.steps[run].0 = self.steps[run].1;
        self.ended += 1;
        let (done, all) = self.steps.iter().fold((0, 0), |(done, all), steps| (done + steps.0, all + steps.1));
        let rest = self.started.elapsed().as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
        let rest = if self.bar.is_none() && done < all { format!("  ETA {}", in_words(rest)) } else { String::new() };
        self.say(&format!("{}/{}  {line}{rest}", self.ended, self.steps.len()));
        self.update();
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn update(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.steps.iter().map(|(done, _)| *done as u64).sum());
            bar.set_message(format!("{}/{} runs", self.ended, self.steps.len()));
        }
    }
}
