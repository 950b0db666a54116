//! Progress in bytes: a bar on a terminal, plain lines elsewhere, always on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines where there is no bar.
const PAUSE: Duration = Duration::from_secs(10);

/// How far the input is read.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    last: Instant,
}

impl Shown {
    /// For an input of so many bytes, where that is known, of which `done` are read.
    pub(super) fn new(total: Option<u64>, done: u64) -> Self {
        let template = match total {
            Some(_) => "{bar:32} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}, {eta}",
            None => "{spinner} {bytes}  {msg}  {bytes_per_sec}",
        };
        let bar = match (std::io::stderr().is_terminal(), ProgressStyle::with_template(template)) {
            (true, Ok(style)) => {
                let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                Some(bar.with_style(style).with_position(done))
            }
            _ => None,
        };
        Self { bar, total, last: Instant::now() }
    }

    /// After a batch.
    pub(super) fn at(&mut self, read: u64, tokens: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(read);
            bar.set_message(format!("{tokens} tokens"));
        } else if self.last.elapsed() >= PAUSE {
            self.last = Instant::now();
            let total = self.total.map(|total| format!(" of {:.1}", total as f64 / 1e6)).unwrap_or_default();
            eprintln!("{:.1}{total} MB, {tokens} tokens", read as f64 / 1e6);
        }
    }

    /// The end.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
