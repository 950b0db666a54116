//! How far a text is scored, on stderr: a bar on a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// Seconds between lines.
const EVERY: u64 = 10;

/// A file in progress.
pub(super) struct Shown<'a> {
    name: &'a str,
    unit: &'a str,
    total: u64,
    bar: Option<ProgressBar>,
    last: Instant,
}

impl<'a> Shown<'a> {
    pub(super) fn new(name: &'a str, total: u64, unit: &'a str) -> Self {
        let style = ProgressStyle::with_template("{bar:32} {percent}%  {msg}  {eta}");
        let bar = match (std::io::stderr().is_terminal(), style) {
            (true, Ok(style)) => Some(ProgressBar::new(total).with_style(style).with_message(name.to_owned())),
            _ => None,
        };
        Self { name, unit, total, bar, last: Instant::now() }
    }

    pub(super) fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.last.elapsed().as_secs() >= EVERY {
            eprintln!("{}: {done} of {} {}", self.name, self.total, self.unit);
            self.last = Instant::now();
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
