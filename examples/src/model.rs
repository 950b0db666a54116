//! `--model`: a path, or the name of a model on a hub, which is downloaded with a bar on a terminal and lines elsewhere.

use crate::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use rwkv_core::checkpoint::{self, Progress};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Lines for every tenth of a file where there is no bar.
const LINES: u64 = 10;

/// The path of the model that the user names, downloaded if it is not here yet.
///
/// # Errors
/// As [`checkpoint::resolve`].
pub fn resolve(model: &Path) -> Result<PathBuf, Failure> {
    let mut shown = Shown::default();
    let path = checkpoint::resolve_with(model, &mut |progress| shown.show(progress));
    shown.end_file();
    Ok(path?)
}

/// The file that is being shown.
#[derive(Default)]
struct Shown {
    file: String,
    bar: Option<ProgressBar>,
    tenths: u64,
}

impl Shown {
    fn show(&mut self, Progress { file, done, total }: Progress<'_>) {
        if self.file != file {
            self.end_file();
            file.clone_into(&mut self.file);
            self.tenths = 0;
            let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}, {eta}");
            self.bar = match (std::io::stderr().is_terminal(), style) {
                (true, Ok(style)) => Some(ProgressBar::new(total).with_style(style).with_message(file.to_owned())),
                _ => None,
            };
        }
        let tenths = done.saturating_mul(LINES).checked_div(total).unwrap_or(LINES);
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if tenths > self.tenths => {
                eprintln!("{file}: {} of {} MB", done / 1_000_000, total / 1_000_000);
                self.tenths = tenths;
            }
            None => {}
        }
    }

    fn end_file(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
