//! Trains variants of a model from several seeds, ranks them and tests them against a baseline.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the program |
//! | `study.rs` | a study's file, or configurations |
//! | `overlay.rs` | a variant's keys over the base's |
//! | `runs.rs` | runs to be, and what their folders say |
//! | `children.rs` | runs side by side, a process each |
//! | `shown.rs` | progress |

mod children;
mod overlay;
mod runs;
mod shown;
mod study;

use crate::train::{assigned, check, finished};
use crate::{Backend, Failure, allocator, corpus, report, run, train, with_backend};
use burn::backend::Autodiff;
use children::{News, Pool, train_one};
use clap::Parser;
use runs::Run;
use rwkv_core::error::Error;
use rwkv_core::files::write_atomic;
use rwkv_core::provenance::Provenance;
use rwkv_eval::ablation::{Curve, Metric, Row, Status, Study, Variant};
use rwkv_train::config::RunConfig;
use shown::Shown;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use study::Design;

/// Trains variants of a model from several seeds, ranks them and tests them against a baseline.
///
/// A study is a TOML file: `question`, `baseline`, `metric`, `seeds` and `equal_params` at its top, a run's configuration under
/// `[base]`, and a `[[variant]]` each with a name and what it changes of the base under model, data, train or tune. Or every file
/// is a run's whole configuration and a variant. Paths in them are relative to where the program runs; configurations that name no data train on
/// the quickstart's stories.
///
/// Writes results.jsonl, ablate.json, .md, .html and charts into --out, and every run into a folder there. What is trained already
/// is not trained again, and what was interrupted goes on.
#[derive(Parser)]
struct Args {
    /// A study's file, a folder with a study.toml or of configurations, or configurations.
    #[arg(value_name = "STUDY.toml|DIR|CONFIG.toml…", required_unless_present = "train_into")]
    files: Vec<PathBuf>,
    /// How many seeds each, from the base's own on [default: the study's, or 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// How many runs at once, which share the cores [default: as many as cores; 1 on GPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Folder for the report and the runs [default: runs/ablate/ and the study's name].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A key of the base, as in TOML: `train.steps=100`. What a variant itself says stays. May be given often.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Give every variant as many parameters as the baseline, by its `dim_ffn`.
    #[arg(long)]
    equal_params: bool,
    /// The variant that the others are compared with [default: the study's, or the first].
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// What decides: `val_loss`, `val_accuracy` or `val_exact` [default: the study's, or `val_loss`].
    #[arg(long)]
    metric: Option<Metric>,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Train one run into this folder, for the program that started this one.
    #[arg(long, value_name = "DIR", hide = true)]
    train_into: Option<PathBuf>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    allocator::for_training();
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| match &args.train_into {
        Some(folder) => with_backend!(backend, |B, device| train_one::<Autodiff<B>>(folder, backend, &device)),
        None => ablate(&args, backend),
    })
}

fn ablate(args: &Args, backend: Backend) -> Result<(), Failure> {
    let sets = args.set.iter().map(|set| assigned(set).map_err(|problem| Failure(format!("--set {set}: {problem}"))));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs/ablate").join(study::name_of(&args.files[0])));
    let stories = out.join("stories.txt");
    let mut design = Design::read(&args.files, &sets, &stories)?;
    let baseline = args.baseline.clone().or(design.baseline.take()).unwrap_or(design.variants[0].name.clone());
    let Some(of_baseline) = design.variants.iter().find(|variant| variant.name == baseline) else {
        let names: Vec<&str> = design.variants.iter().map(|variant| variant.name.as_str()).collect();
        return Err(Failure(format!("the baseline `{baseline}` is none of the variants {}", names.join(", "))));
    };
    let metric = match (args.metric, &design.metric) {
        (Some(metric), _) => metric,
        (None, Some(name)) => name.parse().map_err(|problem| Failure(format!("{}: {problem}", design.name)))?,
        (None, None) => Metric::default(),
    };
    let seeds = design.seeds(args.seeds, of_baseline.config.train.seed)?;
    std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
    let _lock = lock(&out)?;
    if design.stories {
        write_stories(&stories)?;
    }
    let equal = args.equal_params || design.equal_params;
    let notes = if equal { runs::equal_params(&mut design.variants, &baseline)? } else { Vec::new() };
    let runs = runs::runs(&design.variants, &seeds, &out.join("runs"))?;

    let cores = rayon::current_num_threads();
    let usual = if matches!(backend, Backend::Flex | Backend::Ndarray) { cores } else { 1 };
    let jobs = args.jobs.map_or(usual, usize::from);
    let pool = (jobs, (cores / jobs).max(1));
    let (rows, curves) = train_all(&runs, &out.join("results.jsonl"), backend, pool, metric)?;

    let mut study = Study::new(design.question, metric, Provenance::of_this_process(backend.name()));
    (study.rows, study.curves, study.notes) = (rows, curves, notes);
    let config =
        |name: &str| design.variants.iter().find(|variant| variant.name == name).map(|variant| &variant.config);
    let of_baseline = config(&baseline).cloned().unwrap_or_default();
    for variant in &design.variants {
        let changes = study::changes(&variant.config, &of_baseline)?;
        let (name, note, group) = (variant.name.clone(), variant.note.clone(), variant.group.clone());
        study.variants.push(Variant { name, note, group, x: variant.x, changes });
    }
    study.baseline = baseline;
    study.settings = settings(&seeds, equal, pool, &of_baseline)?;
    finish(args, &study, &out)
}

/// Refuses a second program at work in the same folder, as long as what it returns lives.
fn lock(out: &Path) -> Result<File, Failure> {
    let path = out.join(".lock");
    let file = File::create(&path).map_err(Error::io("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure(format!("another ablate is at work in {}", out.display()))),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error).into()),
    }
}

/// The quickstart's text, unless it is there.
fn write_stories(file: &Path) -> Result<(), Failure> {
    let text = corpus::stories(600, 1);
    if std::fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Ok(write_atomic(file, text.as_bytes())?)
}

/// Trains what is not trained yet: the rows of all runs, and the curves of those that ended well.
fn train_all(
    runs: &[Run],
    results: &Path,
    backend: Backend,
    (jobs, threads): (usize, usize),
    metric: Metric,
) -> Result<(Vec<Row>, Vec<Curve>), Failure> {
    let mut rows: Vec<Row> = runs.iter().map(Run::pending).collect();
    let mut curves: Vec<Option<Curve>> = vec![None; runs.len()];
    let mut left = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        check(&run.config, &run.folder)?;
        match finished(&run.config, &run.folder)? {
            None => left.push(i),
            Some(metrics) => {
                let (row, curve) = run.done(&metrics)?;
                measured(run, &row, metric)?;
                (rows[i], curves[i]) = (row, Some(curve));
            }
        }
    }
    write_rows(results, &rows)?;
    // What is wrong with the data is said once, before anything is trained.
    let mut opened: Vec<&RunConfig> = Vec::new();
    for &i in &left {
        let config = &runs[i].config;
        if !opened.iter().any(|other| other.data == config.data && other.train.ctx_len == config.train.ctx_len) {
            train::vocab_size(config)?;
            opened.push(config);
        }
    }
    if left.len() < runs.len() {
        eprintln!("{} of {} runs are done already", runs.len() - left.len(), runs.len());
    }
    if !left.is_empty() {
        let jobs_here = train::Jobs::new(backend)?;
        let stop = jobs_here.stop();
        let todo: Vec<&Run> = left.iter().map(|&i| &runs[i]).collect();
        let mut shown = Shown::new(todo.iter().map(|run| run.config.train.steps));
        let pool = Pool { jobs, threads, backend, stop };
        let heard = pool.train(&todo, |news| {
            let (i, ended) = match news {
                News::Began(i) => {
                    shown.say(&format!("{} begins", todo[i].name));
                    return Ok(());
                }
                News::Step(i, step) => {
                    shown.step(i, step);
                    return Ok(());
                }
                News::Ended(i, ended) => (i, ended),
            };
            let run = todo[i];
            let line = match ended {
                Ok(()) => {
                    let metrics = finished(&run.config, &run.folder)?;
                    let (row, curve) = run.done(&metrics.unwrap_or_default())?;
                    measured(run, &row, metric)?;
                    let value = row.value(metric).unwrap_or(f64::NAN);
                    let line = format!("{}: {metric} {value:.4} in {:.0} s", run.name, row.seconds.unwrap_or(f64::NAN));
                    (rows[left[i]], curves[left[i]]) = (row, Some(curve));
                    line
                }
                Err(sentence) => {
                    let line = format!("{} failed: {sentence}", run.name);
                    rows[left[i]] = run.failed(sentence);
                    line
                }
            };
            shown.ended(i, &line);
            write_rows(results, &rows)
        });
        shown.finish();
        heard?;
        if stop.load(Ordering::Relaxed) {
            return Err(Failure("stopped; the same command goes on from here".to_owned()));
        }
    }
    Ok((rows, curves.into_iter().flatten().collect()))
}

/// Refuses a metric that a run does not have.
fn measured(run: &Run, row: &Row, metric: Metric) -> Result<(), Failure> {
    if row.value(metric).is_some() {
        return Ok(());
    }
    let there = Metric::ALL.into_iter().filter(|other| row.value(*other).is_some()).map(Metric::name);
    let there = there.collect::<Vec<_>>().join(", ");
    Err(Failure(format!("the run {} has no {metric}; it has {there}", run.folder.display())))
}

/// Writes the runs that ended, one a line.
fn write_rows(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.status != Status::Pending) {
        text += &serde_json::to_string(row)?;
        text.push('\n');
    }
    Ok(write_atomic(file, text.as_bytes())?)
}

/// What all runs have in common, and the baseline's keys.
fn settings(
    seeds: &[u64],
    equal: bool,
    (jobs, threads): (usize, usize),
    baseline: &RunConfig,
) -> Result<Vec<(String, String)>, Failure> {
    let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    let equal = if equal { "yes, by dim_ffn" } else { "no" };
    let mut settings = vec![
        ("seeds".to_owned(), seeds.join(", ")),
        ("equal parameters".to_owned(), equal.to_owned()),
        ("runs at once".to_owned(), jobs.to_string()),
        ("threads of a run".to_owned(), threads.to_string()),
    ];
    settings.extend(study::keys(baseline)?);
    Ok(settings)
}

/// Writes the report and says what came of it; runs that failed make the program fail, after that.
fn finish(args: &Args, study: &Study, out: &Path) -> Result<(), Failure> {
    let written = study.document().write(out, "ablate", &study.numbers())?;
    let mut text = String::new();
    let width = study.variants.iter().map(|variant| variant.name.chars().count()).max().unwrap_or(0);
    for standing in study.standings() {
        let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
        let (mean, stderr) = (number(standing.mean), number(standing.stderr));
        let params = standing.params.map_or_else(|| "–".to_owned(), rwkv_eval::report::count);
        let metric = study.metric;
        text += &format!("{:<width$}  {params:>12} parameters  {metric} {mean} ± {stderr}", standing.variant);
        if let Some(difference) = standing.difference {
            text += &format!("  {difference:+.4}");
        }
        if let Some(p) = standing.corrected_p {
            text += &format!("  p {p:.4}");
        }
        text.push('\n');
    }
    text += &format!("{}\nthe report is {}", study.verdict(), written.html.display());
    report::print(args.json, &study.numbers(), text)?;
    let failed: Vec<&Row> = study.rows.iter().filter(|row| row.status == Status::Failed).collect();
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure(format!(
            "{} of {} runs failed; {} with seed {}: {}",
            failed.len(),
            study.rows.len(),
            first.variant,
            first.seed,
            first.error.as_deref().unwrap_or("unknown")
        ))),
    }
}
