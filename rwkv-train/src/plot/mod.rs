//! Runs as pictures: one run's loss, and the curves of several laid over one another.

mod columns;
mod runs;

pub use columns::{Across, Column};
pub use runs::{Overlay, Run, mean_of_last};

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use rwkv_core::chart::Chart;
use rwkv_core::files::write_atomic;
use std::path::Path;

/// Draws training and validation loss against the step, as an SVG file.
///
/// # Errors
/// [`Error::Plot`] when there is nothing to draw, or what is wrong with the file.
pub fn plot_loss(rows: &[Metrics], title: &str, path: &Path) -> Result<()> {
    if rows.is_empty() {
        return Err(problem(path, "there are no rows of metrics"));
    }
    let run = Run { file: path.to_owned(), label: String::new(), rows: rows.to_vec() };
    Overlay { title: title.to_owned(), ..Overlay::default() }.draw(&[run], path)
}

fn problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::Plot { path: path.to_owned(), problem: problem.into() }
}

fn write(chart: &Chart, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "svg") {
        let rest = "pictures are SVG, so end the name with .svg; `rsvg-convert x.svg -o x.png` turns one into a PNG";
        return Err(problem(path, rest));
    }
    let svg = chart.svg().map_err(|what| problem(path, what.to_string()))?;
    Ok(write_atomic(path, svg.as_bytes())?)
}
