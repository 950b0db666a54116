//! Progress of a training run on stderr, as a bar on a terminal and plain lines elsewhere; or in a dashboard.

use crate::Failure;
use crate::dashboard::Dashboard;
use indicatif::{ProgressBar, ProgressStyle};
use rwkv_train::eta::{Eta, in_words};
use rwkv_train::metrics::Metrics;
use std::io::IsTerminal;
use std::time::Instant;

/// Shows how far a run has come, how fast, and how long the rest will take.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
    eta: Eta,
    started: Instant,
}

impl Progress {
    /// For a run of `steps` steps of which `done` are done.
    #[must_use]
    pub fn new(steps: usize, done: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:32} step {pos}/{len}  {msg}  [{elapsed} < {prefix}]");
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => {
                let bar = ProgressBar::new(steps as u64).with_position(done as u64).with_style(style);
                Some(bar.with_prefix("?"))
            }
            _ => None,
        };
        let mut eta = Eta::new(steps);
        eta.mark(0.0, done);
        Self { bar, steps, eta, started: Instant::now() }
    }

    /// After a step, counted from 1.
    pub fn at(&mut self, step: usize) {
        self.eta.mark(self.started.elapsed().as_secs_f64(), step);
        if let Some(bar) = &self.bar {
            bar.set_position(step as u64);
            if let Some(seconds) = self.eta.seconds() {
                bar.set_prefix(in_words(seconds));
            }
        }
    }

    /// A row of metrics; lines where there is no bar come at every validation and some twenty times between.
    pub fn show(&mut self, row: &Metrics) {
        self.eta.mark(self.started.elapsed().as_secs_f64(), row.step);
        let mut line = format!("loss {:.4}", row.loss);
        if let Some(val_loss) = row.val_loss {
            line += &format!("  val_loss {val_loss:.4}");
        }
        if let (Some(accuracy), Some(exact)) = (row.val_accuracy, row.val_exact) {
            line += &format!("  right {:.1} %, whole samples {:.1} %", 100.0 * accuracy, 100.0 * exact);
        }
        line += &format!("  lr {:.2e}  {:.0} tokens/s", row.lr, row.tokens_per_second);
        if let Some(mfu) = row.mfu {
            line += &format!("  MFU {:.1} %", 100.0 * mfu);
        }
        match &self.bar {
            Some(bar) if row.val_loss.is_some() => bar.println(format!("step {}  {line}", row.step)),
            Some(bar) => bar.set_message(line),
            None => {
                let spacing = (self.steps / 20).max(1);
                if row.val_loss.is_some() || row.step.is_multiple_of(spacing) || row.step == self.steps {
                    let rest = self.eta.seconds().filter(|_| row.step < self.steps);
                    let rest = rest.map_or_else(String::new, |seconds| format!("  ETA {}", in_words(seconds)));
                    eprintln!("step {}/{}  {line}{rest}", row.step, self.steps);
                }
            }
        }
    }

    /// A line beside the rows.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// The end of the run.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Where progress is shown.
pub enum Display {
    /// On stderr.
    Lines(Progress),
    /// In a dashboard.
    Dashboard(Dashboard),
}

impl Display {
    /// In a dashboard or on stderr, for a run of `steps` steps of which `done` are done.
    ///
    /// # Errors
    /// When the dashboard is not compiled in, or there is no terminal for it.
    pub fn new(dashboard: bool, steps: usize, done: usize) -> Result<Self, Failure> {
        if dashboard {
            Dashboard::open(steps, done).map(Self::Dashboard)
        } else {
            Ok(Self::Lines(Progress::new(steps, done)))
        }
    }

    /// After a step, counted from 1.
    pub fn at(&mut self, step: usize) {
        match self {
            Self::Lines(progress) => progress.at(step),
            Self::Dashboard(dashboard) => dashboard.at(step),
        }
    }

    /// A row of metrics.
    pub fn show(&mut self, row: &Metrics) {
        match self {
            Self::Lines(progress) => progress.show(row),
            Self::Dashboard(dashboard) => dashboard.show(row),
        }
    }

    /// A line beside the rows; a dashboard has no place for it, the run's `events.jsonl` has.
    pub fn say(&self, line: &str) {
        if let Self::Lines(progress) = self {
            progress.say(line);
        }
    }

    /// Whether the user asked the dashboard to stop.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        match self {
            Self::Lines(_) => false,
            Self::Dashboard(dashboard) => dashboard.stop_requested(),
        }
    }

    /// The end of the run.
    pub fn finish(self) {
        match self {
            Self::Lines(progress) => progress.finish(),
            Self::Dashboard(dashboard) => dashboard.close(),
        }
    }
}
