//! Scores a model on tasks.

mod args;
mod data;
mod samples;
mod shown;

use crate::model;
use crate::{Backend, Failure, report, run, with_backend};
use args::Args;
use clap::Parser;
use data::Data;
use rwkv_core::error::Error;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::AnyTokenizer;
use rwkv_eval::journal::Journal;
use rwkv_eval::lm::Lm;
use rwkv_eval::model::Batching;
use rwkv_eval::report::{Evaluation, ModelInfo, Settings, Speed};
use rwkv_eval::runner::{self, Answers, Asking, Prepared};
use rwkv_eval::task::Task;
use shown::Shown;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| evaluate::<B>(&args, backend, device)))
}

fn evaluate<B: RwkvBackend>(args: &Args, backend: Backend, device: B::Device) -> Result<(), Failure> {
    // Wrong names and missing data are told before the model is read.
    let tasks = tasks(args)?;
    let named = |task: &Task| args.split.iter().find(|(name, _)| name == task.name).map(|(_, split)| split.as_str());
    let data: Vec<Data> = tasks
        .iter()
        .map(|&task| Data::read(&args.data, task, named(task), args.num_fewshot, args.download))
        .collect::<Result<_, _>>()?;
    let (model, path) = args.model.load::<B>(&device)?;
    let tokenizer = match model::tokenizer(args.tokenizer.as_deref(), &path, &model)? {
        // The harness's tokenizer takes the spelling of a control token for the token.
        AnyTokenizer::Neox(tokenizer) => AnyTokenizer::from(tokenizer.with_control_tokens_in_text(true)),
        other => other,
    };
    let asking = Asking {
        limit: args.limit,
        context_start: args.context_start,
        num_fewshot: args.num_fewshot,
        seed: args.seed,
        max_length: args.max_length,
    };
    let prepared: Vec<Prepared> = data
        .iter()
        .map(|data| runner::prepare(data.task, &data.rows, data.examples(), &tokenizer, &asking))
        .collect::<Result<_, _>>()?;

    let fingerprint = model.fingerprint().to_string();
    if let Some(folder) = args.out.as_deref().and_then(Path::parent) {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let mut journal = match &args.out {
        Some(out) => {
            let (dtype, backend) = (args.model.dtype.name(), backend.name());
            // Another version may compute otherwise, and backends round each in its way.
            let answers_of = format!("{fingerprint} {dtype} {backend} {}", env!("CARGO_PKG_VERSION"));
            Some(Journal::open(&journal_of(out), &answers_of)?)
        }
        None => None,
    };
    let batching =
        Batching { rows: args.batch_size, prefix_sharing: !args.no_prefix_sharing, memory: args.memory * 1_000_000 };
    let mut shown = Shown::new();
    let started = Instant::now();
    let answers =
        runner::ask(&Lm::new(&model), &prepared, &batching, journal.as_mut(), &mut |done, all| shown.at(done, all));
    let seconds = started.elapsed().as_secs_f64();
    shown.finish();
    let answers = answers?;

    let info = model_info(args, &model, &path, fingerprint)?;
    let evaluation = evaluation(args, &data, &prepared, &answers, info, seconds, backend.name());
    if let Some(file) = &args.log_samples {
        samples::write(file, &prepared, &answers)?;
    }
    if let Some(out) = &args.out {
        let (folder, name) = (out.parent().unwrap_or(Path::new("")), out.file_stem().unwrap_or_default());
        evaluation.document().write(folder, &name.to_string_lossy(), &evaluation)?;
    }
    if let Some(journal) = journal {
        journal.remove()?;
    }
    report::print(args.json, &evaluation, shown::table(&evaluation))
}

/// The tasks that were named, each once.
fn tasks(args: &Args) -> Result<Vec<&'static Task>, Failure> {
    let mut tasks: Vec<&'static Task> = Vec::new();
    for name in &args.tasks {
        let task = Task::named(name)?;
        if !tasks.iter().any(|known| known.name == task.name) {
            tasks.push(task);
        }
    }
    match args.split.iter().find(|(name, _)| !tasks.iter().any(|task| task.name == name)) {
        Some((name, _)) => Err(Failure(format!("--split names {name}, which is none of --tasks"))),
        None => Ok(tasks),
    }
}

/// The journal beside a result.
fn journal_of(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".journal");
    name.into()
}

fn model_info<B: RwkvBackend>(
    args: &Args,
    model: &Rwkv<B>,
    path: &Path,
    fingerprint: String,
) -> Result<ModelInfo, Failure> {
    let beside = || rwkv_core::checkpoint::model_file(path).with_file_name(rwkv_core::checkpoint::TOKENIZER_FILE);
    let tokenizer = args.tokenizer.clone().unwrap_or_else(beside);
    let config = model.config();
    Ok(ModelInfo {
        name: args.model.model.display().to_string(),
        fingerprint,
        parameters: config.num_params(),
        config: serde_json::to_value(&config)?,
        dtype: args.model.dtype.name().to_owned(),
        tokenizer: tokenizer.display().to_string(),
        tokenizer_hash: runner::hash_of(&tokenizer)?,
    })
}

fn evaluation(
    args: &Args,
    data: &[Data],
    prepared: &[Prepared],
    answers: &Answers,
    model: ModelInfo,
    seconds: f64,
    backend: &str,
) -> Evaluation {
    let name = |task: &Prepared| task.task.name.to_owned();
    let scored = prepared.iter().zip(&answers.likelihoods);
    let better = |task: &Prepared| {
        let metrics = task.task.metrics.iter();
        metrics.map(|metric| (metric.name().to_owned(), metric.higher_is_better())).collect()
    };
    Evaluation {
        results: scored.map(|(task, answers)| (name(task), runner::score(task, answers, args.resamples))).collect(),
        versions: prepared.iter().map(|task| (name(task), task.task.version)).collect(),
        n_shot: prepared.iter().map(|task| (name(task), task.num_fewshot)).collect(),
        n_samples: prepared.iter().map(|task| (name(task), task.samples)).collect(),
        higher_is_better: prepared.iter().map(|task| (name(task), better(task))).collect(),
        model,
        settings: Settings {
            context_start: args.context_start.to_string(),
            limit: args.limit,
            batch_size: args.batch_size,
            max_length: args.max_length,
            prefix_sharing: !args.no_prefix_sharing,
            seed: args.seed,
            resamples: args.resamples,
            splits: data.iter().map(|data| (data.task.name.to_owned(), data.split.clone())).collect(),
            data: data.iter().map(|data| (data.task.name.to_owned(), data.files.clone())).collect(),
        },
        speed: Speed {
            seconds,
            samples: prepared.iter().map(|task| task.documents.len()).sum(),
            requests: answers.work.requests,
            resumed: answers.work.resumed,
            tokens_read: answers.work.tokens_read,
            tokens_asked: answers.work.tokens_asked,
        },
        provenance: Provenance::of_this_process(backend),
    }
}
