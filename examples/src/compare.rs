//! Sets evaluations side by side, and beside the paper's table.

use crate::{Failure, report, run};
use clap::Parser;
use rwkv_eval::compare::Comparison;
use rwkv_eval::report::Evaluation;
use rwkv_eval::report::paper::{ROWS, select};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Sets evaluations side by side, and beside the paper's table.
///
/// Writes comparison.json, .md, .html and charts. Settings that differ are said on stderr and in the report.
#[derive(Parser)]
struct Args {
    /// Reports of `evaluate --out`.
    #[arg(value_name = "REPORT.json", required = true)]
    reports: Vec<PathBuf>,
    /// Beside the paper's models: all, or those whose names contain a word, as in --paper rwkv-4,pythia.
    #[arg(long, value_name = "MODELS", num_args = 0..=1, default_missing_value = "")]
    paper: Option<String>,
    /// What the models are called, in their order [default: their own names].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    labels: Vec<String>,
    /// The folder for the comparison's files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the comparison as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    run(|| compare(&args))
}

fn compare(args: &Args) -> Result<(), Failure> {
    let reports = args.reports.iter().map(|path| Evaluation::read(path)).collect::<Result<Vec<_>, _>>()?;
    let labels = labels(args, &reports)?;
    let paper = args.paper.as_deref().map(|filter| select(filter).collect::<Vec<_>>());
    if let (Some(filter), Some([])) = (&args.paper, paper.as_deref()) {
        let models = ROWS.map(|row| row.label()).join(", ");
        return Err(Failure(format!("--paper {filter}: no model has such a name; there are {models}")));
    }
    let evaluations: Vec<_> = labels.into_iter().zip(reports).collect();
    let comparison = Comparison::new(&evaluations, paper.unwrap_or_default())?;
    for warning in &comparison.warnings {
        eprintln!("warning: {warning}");
    }
    let written = comparison.document().write(&args.out, "comparison", &comparison)?;
    report::print(args.json, &comparison, describe(&comparison, &written.html))
}

/// The user's labels, or the models' names, told apart by their files where they are the same.
fn labels(args: &Args, reports: &[Evaluation]) -> Result<Vec<String>, Failure> {
    if !args.labels.is_empty() {
        let (names, models) = (args.labels.len(), reports.len());
        if names != models {
            return Err(Failure(format!("--labels names {names} models, but there are {models} reports")));
        }
        return Ok(args.labels.clone());
    }
    // The end of a path says enough.
    let short = |report: &Evaluation| {
        let name = Path::new(&report.model.name).file_name();
        name.map_or_else(|| report.model.name.clone(), |name| name.to_string_lossy().into_owned())
    };
    let names: Vec<String> = reports.iter().map(short).collect();
    let unique = |(name, path): (&String, &PathBuf)| {
        let twice = names.iter().filter(|other| *other == name).count() > 1;
        if twice { format!("{name} ({})", path.display()) } else { name.clone() }
    };
    Ok(names.iter().zip(&args.reports).map(unique).collect())
}

fn describe(comparison: &Comparison, html: &Path) -> String {
    let mut text = String::new();
    for row in &comparison.rows {
        let score = |score: &rwkv_eval::compare::Score| {
            let stderr = score.stderr.map_or_else(String::new, |stderr| format!(" ±{stderr:.4}"));
            format!("{}{:.4}{stderr}", if score.best { "*" } else { "" }, score.value)
        };
        let _ = write!(text, "{:<16} {:<12}", row.task, row.metric); // a String takes everything
        for of_model in &row.scores {
            let shown = of_model.as_ref().map_or_else(|| "–".to_owned(), score);
            let _ = write!(text, "  {shown:>18}");
        }
        text.push('\n');
    }
    text + &format!("the comparison is in {}", html.display())
}
