//! The curves of runs, from their folders into a chart.

use super::columns::{Across, Column};
use super::write;
use crate::config::RunConfig;
use crate::error::Result;
use crate::flops;
use crate::metrics::{self, Metrics};
use rwkv_core::chart::{Chart, Entry, Look, Scale, Series};
use rwkv_core::checkpoint::TOKENIZER_FILE;
use rwkv_core::error::Error;
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use std::path::{Path, PathBuf};

const CONFIG_FILE: &str = "config.toml";

/// A run whose curves are drawn.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its file of metrics.
    pub file: PathBuf,
    /// What the legend calls it.
    pub label: String,
    /// Its rows.
    pub rows: Vec<Metrics>,
}

impl Run {
    /// Reads a run from its folder, or from a file of metrics; it is labelled with the folder's name.
    ///
    /// # Errors
    /// When it is missing, has no rows, or a row is not one; the file and the line are named.
    pub fn read(path: &Path) -> Result<Self> {
        let folder = std::fs::metadata(path).map_err(Error::io("read", path))?.is_dir();
        let file = if folder { path.join(metrics::FILE) } else { path.to_owned() };
        if !file.exists() {
            return Err(Error::format(path, format!("holds no {}: it is no run", metrics::FILE)).into());
        }
        let rows = metrics::read(&file)?;
        if rows.is_empty() {
            return Err(Error::format(&file, "has no rows").into());
        }
        let named = if folder { path } else { path.parent().unwrap_or(path) };
        // `.` and `..` have a name only once they are resolved.
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        let label = name(named).or_else(|| name(&named.canonicalize().ok()?));
        Ok(Self { label: label.unwrap_or_else(|| path.display().to_string()), file, rows })
    }

    /// The points of a curve, smoothed over `smooth` rows ([`mean_of_last`]); validation losses are not smoothed.
    ///
    /// # Errors
    /// When no row has the numbers, or the run's folder does not tell the operations per token.
    pub fn points(&self, x: Across, y: Column, smooth: usize) -> Result<Vec<(f64, f64)>> {
        let per_token = if x == Across::Flops { self.flops_per_token()? } else { 0.0 };
        let at = |row: &Metrics| match x {
            Across::Steps => Some(row.step as f64),
            Across::Tokens => (row.tokens > 0).then_some(row.tokens as f64),
            Across::Hours => row.seconds.map(|seconds| seconds / 3600.0),
            Across::Flops => (row.tokens > 0).then_some(row.tokens as f64 * per_token),
        };
        let lacks = |what: &str| Error::format(&self.file, format!("has no row with {what}"));
        let mut points: Vec<_> = self.rows.iter().filter_map(|row| Some((at(row)?, y.of(row)?))).collect();
        if points.is_empty() {
            let missing = if self.rows.iter().any(|row| at(row).is_some()) {
                lacks(y.name())
            } else {
                let field = if x == Across::Hours { "seconds" } else { "tokens" };
                lacks(&format!("`{field}`; it was written by an older version, so choose --x steps"))
            };
            return Err(missing.into());
        }
        if y != Column::ValLoss {
            points = mean_of_last(&points, smooth);
        }
        Ok(points)
    }

    /// From the configuration and the vocabulary that stand beside the metrics.
    fn flops_per_token(&self) -> Result<f64> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let config = RunConfig::load(&folder.join(CONFIG_FILE))?;
        let tokenizer = AnyTokenizer::load(&folder.join(TOKENIZER_FILE))?;
        Ok(flops::per_token(&config.model_config(tokenizer.vocab_size()), config.train.ctx_len))
    }
}

/// Every point's height replaced by the mean of its own and the `count − 1` before it, or as many as there are.
///
/// # Example
/// ```
/// let points = [(1.0, 4.0), (2.0, 2.0), (3.0, 0.0)];
/// assert_eq!(rwkv_train::plot::mean_of_last(&points, 2), [(1.0, 4.0), (2.0, 3.0), (3.0, 1.0)]);
/// ```
#[must_use]
pub fn mean_of_last(points: &[(f64, f64)], count: usize) -> Vec<(f64, f64)> {
    let window = |end: usize| &points[(end + 1).saturating_sub(count.max(1))..=end];
    let mean = |window: &[(f64, f64)]| window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64;
    points.iter().enumerate().map(|(i, point)| (point.0, mean(window(i)))).collect()
}

/// How curves are laid over one another.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The title; none where it is empty.
    pub title: String,
    /// What the plot goes along.
    pub x: Across,
    /// What it shows.
    pub y: Column,
    /// Rows that the moving mean takes; 0 and 1 leave the curve as it is.
    pub smooth: usize,
    /// A logarithmic x axis.
    pub log_x: bool,
    /// A logarithmic y axis.
    pub log_y: bool,
}

impl Overlay {
    /// Draws the runs' curves into one SVG file.
    ///
    /// Colours are told apart by people with any kind of colour vision, and from the eighth run on lines are dashed. The
    /// legend is beside the axes, or below them where labels are long.
    ///
    /// # Errors
    /// As [`Run::points`]; when there are no runs or no value has a place on the axes; when the file cannot be written.
    pub fn draw(&self, runs: &[Run], path: &Path) -> Result<()> {
        write(&self.chart(runs)?, path)
    }

    fn chart(&self, runs: &[Run]) -> Result<Chart> {
        let mut chart = Chart {
            title: self.title.clone(),
            x_name: self.x.axis().to_owned(),
            y_name: self.y.axis().to_owned(),
            x_scale: Scale::log(self.log_x),
            y_scale: Scale::log(self.log_y),
            ..Chart::default()
        };
        let mut validated = false;
        for (number, run) in runs.iter().enumerate() {
            // A single run has two colours, several have one each.
            let held_out = if runs.len() == 1 { 1 } else { number };
            let points = run.points(self.x, self.y, self.smooth)?;
            if self.y == Column::Loss {
                chart.series.push(Series::new(points, Look::pale(number)));
                if run.rows.iter().any(|row| row.val_loss.is_some()) {
                    let points = run.points(self.x, Column::ValLoss, 1)?;
                    chart.series.push(Series::new(points, Look::bold(held_out)));
                    validated = true;
                }
            } else {
                chart.series.push(Series::new(points, Look::bold(number)));
            }
            if runs.len() > 1 || self.y != Column::Loss {
                chart.legend.push(Entry { label: run.label.clone(), look: Look::bold(number) });
            }
        }
        if self.y == Column::Loss {
            // Of several runs each has its colour, so what all have in common is grey.
            let look = |look: Look| Look { number: look.number.filter(|_| runs.len() == 1), ..look };
            chart.legend.push(Entry { label: "training".into(), look: look(Look::pale(0)) });
            if validated {
                chart.legend.push(Entry { label: "held out".into(), look: look(Look::bold(1)) });
            }
        }
        Ok(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(label: &str, rows: usize, val_every: usize) -> Run {
        let row = |i: usize| Metrics {
            step: 10 * i,
            loss: 4.0 / i as f64,
            val_loss: (val_every > 0 && i.is_multiple_of(val_every)).then_some(5.0 / i as f64),
            val_accuracy: None,
            val_exact: None,
            tokens_per_second: 1e4,
            lr: 1e-3,
            grad_norm: 1.0,
            tokens: 7680 * i as u64,
            mfu: None,
            seconds: Some(36.0 * i as f64),
        };
        Run { file: format!("{label}/metrics.jsonl").into(), label: label.into(), rows: (1..=rows).map(row).collect() }
    }

    #[test]
    fn every_x_has_its_unit() {
        let run = run("a", 3, 0);
        let xs = |x: Across| run.points(x, Column::Loss, 1).expect("points").iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(xs(Across::Steps), [10.0, 20.0, 30.0]);
        assert_eq!(xs(Across::Tokens), [7680.0, 15_360.0, 23_040.0]);
        assert_eq!(xs(Across::Hours), [0.01, 0.02, 0.03]);
    }

    #[test]
    fn what_rows_lack_is_said_with_the_file() {
        let mut run = run("a", 3, 0);
        let said = |run: &Run, x: Across, y: Column| run.points(x, y, 1).expect_err("nothing").to_string();
        assert_eq!(said(&run, Across::Steps, Column::ValLoss), "a/metrics.jsonl has no row with val_loss");
        assert_eq!(said(&run, Across::Steps, Column::Mfu), "a/metrics.jsonl has no row with mfu");
        for row in &mut run.rows {
            (row.tokens, row.seconds) = (0, None);
        }
        assert!(said(&run, Across::Tokens, Column::Loss).contains("`tokens`"));
        assert!(said(&run, Across::Hours, Column::Loss).contains("`seconds`"));
        assert!(said(&run, Across::Flops, Column::Loss).contains("config.toml"));
    }

    #[test]
    fn several_runs_have_a_colour_each_and_one_run_has_two() {
        let chart = |runs: &[Run]| Overlay::default().chart(runs).expect("a chart");
        let look = |chart: &Chart| {
            chart.series.iter().map(|series| (series.look.number, series.look.bold)).collect::<Vec<_>>()
        };
        let two = chart(&[run("a", 9, 3), run("b", 9, 0)]);
        assert_eq!(look(&two), [(Some(0), false), (Some(0), true), (Some(1), false)]);
        let labels = |chart: &Chart| chart.legend.iter().map(|entry| entry.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&two), ["a", "b", "training", "held out"]);
        let one = chart(&[run("a", 9, 3)]);
        assert_eq!(look(&one), [(Some(0), false), (Some(1), true)]);
        assert_eq!(labels(&one), ["training", "held out"]);
    }

    #[test]
    fn labels_are_escaped_and_only_positive_values_have_a_logarithm() {
        let mut run = run("a<b & c", 3, 0);
        let svg =
            Overlay { y: Column::Lr, ..Overlay::default() }.chart(std::slice::from_ref(&run)).expect("a chart").svg();
        let svg = svg.expect("a picture");
        assert!(svg.contains("a&lt;b &amp; c") && !svg.contains("a<b"), "{svg}");
        for row in &mut run.rows {
            row.lr = 0.0;
        }
        let overlay = Overlay { y: Column::Lr, log_y: true, ..Overlay::default() };
        let said = overlay.draw(&[run], Path::new("/no/such/lr.svg")).expect_err("no logarithm").to_string();
        assert_eq!(said, "cannot draw /no/such/lr.svg: no value is positive, which a logarithmic axis needs");
    }
}
