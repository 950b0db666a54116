//! Progress of a training run: a bar on a terminal, plain lines elsewhere, always on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use rwkv_train::metrics::Metrics;
use std::io::IsTerminal;

/// Shows how far a run has come.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
}

impl Progress {
    /// For a run of `steps` steps of which `done` are done.
    #[must_use]
    pub fn new(steps: usize, done: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:32} step {pos}/{len}  {msg}  [{elapsed} < {eta}]");
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => Some(ProgressBar::new(steps as u64).with_position(done as u64).with_style(style)),
            _ => None,
        };
        Self { bar, steps }
    }

    /// After a step, counted from 1.
    pub fn at(&self, step: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(step as u64);
        }
    }

    /// A row of metrics; lines where there is no bar come at every validation and some twenty times between.
    pub fn show(&self, row: &Metrics) {
        let mut line = format!("loss {:.4}", row.loss);
        if let Some(val_loss) = row.val_loss {
            line += &format!("  val_loss {val_loss:.4}");
        }
        line += &format!("  lr {:.2e}  {:.0} tokens/s", row.lr, row.tokens_per_second);
        match &self.bar {
            Some(bar) if row.val_loss.is_some() => bar.println(format!("step {}  {line}", row.step)),
            Some(bar) => bar.set_message(line),
            None => {
                let spacing = (self.steps / 20).max(1);
                if row.val_loss.is_some() || row.step.is_multiple_of(spacing) || row.step == self.steps {
                    eprintln!("step {}/{}  {line}", row.step, self.steps);
                }
            }
        }
    }

    /// The end of the run.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
