//! Overlays the curves of several runs in one picture.

use crate::{Failure, report, run};
use clap::Parser;
use rwkv_train::plot::{Across, Column, Overlay, Run};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Overlays the curves of training runs in one picture.
///
/// With --y loss a thin, pale line is the training loss and a bold one with dots the validation loss.
#[derive(Parser)]
struct Args {
    /// Run directories, or files of metrics.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The picture, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
    /// What the plot goes along: steps, tokens, hours (of wall time) or flops.
    #[arg(long, default_value = "steps")]
    x: Across,
    /// What it shows.
    #[arg(
        long,
        default_value = "loss",
        help = "What it shows: loss, val_loss, val_accuracy, val_exact, lr, grad_norm, tokens_per_second or mfu"
    )]
    y: Column,
    /// Draw the mean of this many rows up to each; validation losses are left as they are.
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    smooth: usize,
    /// Logarithmic x axis.
    #[arg(long)]
    log_x: bool,
    /// Logarithmic y axis.
    #[arg(long)]
    log_y: bool,
    /// What the legend calls the runs, in their order [default: their folders' names].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    labels: Vec<String>,
    /// Title of the picture.
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
    /// Print what was drawn as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| plot(args))
}

/// What the program reports.
#[derive(Serialize)]
struct Outcome {
    out: PathBuf,
    x: Across,
    y: Column,
    runs: Vec<Drawn>,
}

/// A run in the picture.
#[derive(Serialize)]
struct Drawn {
    label: String,
    file: PathBuf,
    rows: usize,
    /// Where the curve ends: x and y.
    last: Option<(f64, f64)>,
    /// Its lowest point: x and y.
    lowest: Option<(f64, f64)>,
}

fn plot(args: Args) -> Result<(), Failure> {
    let mut runs = args.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
    name(&mut runs, &args.labels)?;
    let Args { x, y, smooth, log_x, log_y, title, out, json, .. } = args;
    Overlay { title, x, y, smooth, log_x, log_y }.draw(&runs, &out)?;
    let drawn = |run: &Run| {
        let points = run.points(x, y, smooth)?;
        let lowest = points.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let (label, file) = (run.label.clone(), run.file.clone());
        Ok::<_, Failure>(Drawn { label, file, rows: run.rows.len(), last: points.last().copied(), lowest })
    };
    let outcome = Outcome { runs: runs.iter().map(drawn).collect::<Result<_, _>>()?, out, x, y };
    report::print(json, &outcome, describe(&outcome))
}

/// Takes the user's labels, or tells runs of the same name apart by their paths.
fn name(runs: &mut [Run], labels: &[String]) -> Result<(), Failure> {
    if !labels.is_empty() {
        if labels.len() != runs.len() {
            return Err(Failure(format!("--labels names {} runs, but there are {}", labels.len(), runs.len())));
        }
        for (run, label) in runs.iter_mut().zip(labels) {
            run.label.clone_from(label);
        }
        return Ok(());
    }
    let names: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    for run in runs {
        if names.iter().filter(|name| **name == run.label).count() > 1 {
            let folder = run.file.parent().unwrap_or(&run.file);
            run.label = folder.display().to_string();
        }
    }
    Ok(())
}

fn describe(outcome: &Outcome) -> String {
    let mut text = String::new();
    for Drawn { label, rows, last, .. } in &outcome.runs {
        if let Some((x, y)) = last {
            let y = if y.abs() < 0.01 { format!("{y:.3e}") } else { format!("{y:.4}") };
            text += &format!("{label}: {rows} rows, {y} at {x}\n");
        }
    }
    text + &format!("the picture is in {}", outcome.out.display())
}
