//! From tasks and their data to scores.

use crate::data::Row;
use crate::encode::{ContextStart, encode_pair};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::metrics::{self, Answered};
use crate::model::{Batching, LanguageModel};
use crate::report::Samples;
use crate::request::{Likelihood, TokenRequest};
use crate::task::{FewShot, Task};
use rwkv_core::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// How documents become requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// The first so many documents only.
    pub limit: Option<usize>,
    /// What comes before the text.
    pub context_start: ContextStart,
    /// Worked examples before each question.
    pub num_fewshot: usize,
    /// Seed of their draw.
    pub seed: u64,
    /// Tokens that the model reads of a request at most; longer ones are cut from the left.
    pub max_length: usize,
}

impl Default for Asking {
    /// As the reference harness asks.
    fn default() -> Self {
        Self { limit: None, context_start: ContextStart::Harness, num_fewshot: 0, seed: 1234, max_length: 1024 }
    }
}

/// A task whose documents have become requests.
#[derive(Debug)]
pub struct Prepared {
    /// The task.
    pub task: &'static Task,
    /// Its documents, in the order of the data.
    pub documents: Vec<PreparedDocument>,
    /// Worked examples before each.
    pub num_fewshot: usize,
    /// How many there are, and how many are asked.
    pub samples: Samples,
}

/// A document as requests.
#[derive(Debug)]
pub struct PreparedDocument {
    /// The data file.
    pub file: Arc<Path>,
    /// The line or row in it, from 1.
    pub line: usize,
    /// One for each pair of texts.
    pub requests: Vec<PreparedRequest>,
    /// Which one is right, where there is a choice.
    pub gold: Option<usize>,
    /// Lengths of the choices, in code points.
    pub lengths: Vec<usize>,
}

/// A request, and which texts it came from.
#[derive(Debug)]
pub struct PreparedRequest {
    /// What the model is asked.
    pub tokens: TokenRequest,
    /// XXH3-64 of the context and of the continuation.
    pub text_hashes: (u64, u64),
}

/// Turns a task's rows into requests; `examples` are the rows of the split that worked examples come from, with whether it is
/// the split that is asked. Nothing is left out in silence: what cannot be asked is an error.
///
/// # Errors
/// [`Error::Document`] for a row that is not what the task needs or cannot be tokenised, or when there are no rows or too few
/// examples.
pub fn prepare(
    task: &'static Task,
    rows: &[Row],
    examples: (&[Row], bool),
    tokenizer: &dyn Tokenizer,
    asking: &Asking,
) -> Result<Prepared> {
    let effective = asking.limit.map_or(rows.len(), |limit| limit.min(rows.len()));
    if effective == 0 {
        let found = format!("{} rows, of which {effective} are asked", rows.len());
        return Err(
            rwkv_core::error::Error::config("data", format!("at least one document of {}", task.name), found).into()
        );
    }
    let mut few_shot = FewShot::new(task, examples.0, asking.num_fewshot, asking.seed, examples.1)?;
    let mut samples = Samples { original: rows.len(), effective, truncated: 0 };
    let mut documents = Vec::with_capacity(effective);
    for (index, row) in rows[..effective].iter().enumerate() {
        let document = (task.document)(row)?;
        let mut requests = Vec::new();
        for (number, (context, continuation)) in document.pairs(&few_shot.draw(index)).into_iter().enumerate() {
            let wrong = |problem: String| row.error(format!("{}, request {number}: {problem}", task.name));
            let encoded = encode_pair(tokenizer, &context, &continuation, asking.context_start);
            let encoded = encoded.map_err(|error| wrong(error.to_string()))?;
            let mut tokens = encoded.map_err(|problem| wrong(problem.to_string()))?;
            let length = tokens.continuation.len();
            if length > asking.max_length {
                let most = asking.max_length;
                return Err(wrong(format!("the continuation has {length} tokens, and the longest request {most}")));
            }
            samples.truncated += usize::from(tokens.cut(asking.max_length));
            let text_hashes = (xxh3_64(context.as_bytes()), xxh3_64(continuation.as_bytes()));
            requests.push(PreparedRequest { tokens, text_hashes });
        }
        documents.push(PreparedDocument {
            file: row.file.clone(),
            line: row.line,
            requests,
            gold: document.gold(),
            lengths: document.lengths(),
        });
    }
    Ok(Prepared { task, documents, num_fewshot: asking.num_fewshot, samples })
}

/// The answers to all requests of some tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// By task, document and request.
    pub likelihoods: Vec<Vec<Vec<Likelihood>>>,
    /// How much there was to do.
    pub work: Work,
}

/// How much there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Requests.
    pub requests: usize,
    /// Requests whose answers were in the journal.
    pub resumed: usize,
    /// Tokens of all requests that were not, one by one.
    pub tokens_asked: usize,
    /// Tokens that the model read for them.
    pub tokens_read: usize,
}

/// Asks the model. `progress` gets the number of requests that are answered, and of all, after every answer.
///
/// # Errors
/// As [`LanguageModel::log_likelihoods`]; [`Error::Document`] for an answer that is no number; when the journal cannot be
/// written.
///
/// # Panics
/// When the model leaves a request without an answer and says nothing.
pub fn ask(
    model: &dyn LanguageModel,
    tasks: &[Prepared],
    batching: &Batching,
    mut journal: Option<&mut Journal>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Answers> {
    let of_task = |task: &Prepared| task.documents.iter().flat_map(|document| &document.requests).count();
    let mut work = Work { requests: tasks.iter().map(of_task).sum(), ..Work::default() };
    // Equal requests are asked once: where each distinct one stands in `answers`, and who asked it first.
    let mut places: HashMap<&TokenRequest, usize> = HashMap::new();
    let mut answers: Vec<Option<Likelihood>> = Vec::new();
    let (mut open, mut open_places, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut times: Vec<usize> = Vec::new();
    for task in tasks {
        for document in &task.documents {
            for request in &document.requests {
                let place = match places.entry(&request.tokens) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let place = *new.insert(answers.len());
                        let known = journal.as_ref().and_then(|journal| journal.get(&request.tokens));
                        if known.is_none() {
                            open.push(request.tokens.clone());
                            open_places.push(place);
                            owners.push((task, document));
                        }
                        answers.push(known);
                        times.push(0);
                        place
                    }
                };
                times[place] += 1;
                match answers[place] {
                    Some(_) => work.resumed += 1,
                    None => work.tokens_asked += request.tokens.input_len(),
                }
            }
        }
    }
    let mut done = work.resumed;
    progress(done, work.requests);
    let read = model.log_likelihoods(&open, batching, &mut |request, likelihood| {
        if !likelihood.log_likelihood.is_finite() {
            let (task, document) = owners[request];
            let problem = format!("the model's answer for {} is {}", task.task.name, likelihood.log_likelihood);
            return Err(Error::document(&document.file, document.line, problem));
        }
        if let Some(journal) = &mut journal {
            journal.record(&open[request], likelihood)?;
        }
        let place = open_places[request];
        answers[place] = Some(likelihood);
        done += times[place];
        progress(done, work.requests);
        Ok(())
    });
    work.tokens_read = read.map_err(|error| match error {
        // The model knows no documents; the longest request is the one that it has no memory for.
        Error::Memory { tokens, .. } => match open.iter().position(|request| request.input_len() == tokens) {
            Some(request) => {
                let (_, document) = owners[request];
                let (file, line) = (document.file.to_path_buf(), document.line);
                Error::Request { file, line, source: Box::new(error) }
            }
            None => error,
        },
        other => other,
    })?;
    let answer = |request: &PreparedRequest| {
        answers[places[&request.tokens]].expect("a model answers every request, or there is an error")
    };
    let of_document = |document: &PreparedDocument| document.requests.iter().map(answer).collect();
    let likelihoods = tasks.iter().map(|task| task.documents.iter().map(of_document).collect()).collect();
    Ok(Answers { likelihoods, work })
}

/// The files that rows came from, each with the XXH3-128 of its bytes.
///
/// # Errors
/// When one cannot be read.
pub fn files(rows: &[Row]) -> Result<Vec<(String, String)>> {
    let mut paths: Vec<&Arc<Path>> = rows.iter().map(|row| &row.file).collect();
    paths.dedup(); // the rows of a file are together
    paths.into_iter().map(|path| Ok((path.display().to_string(), hash_of(path)?))).collect()
}

/// The XXH3-128 of a file's bytes, as 32 digits.
///
/// # Errors
/// When it cannot be read.
pub fn hash_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(rwkv_core::error::Error::io("read", path))?;
    Ok(format!("{:032x}", xxh3_128(&bytes)))
}

/// The values of a task's metrics, with their standard errors; see [`metrics::score`].
///
/// # Panics
/// When the answers are not the task's.
#[must_use]
pub fn score(task: &Prepared, likelihoods: &[Vec<Likelihood>], resamples: usize) -> BTreeMap<String, f64> {
    assert_eq!(task.documents.len(), likelihoods.len(), "answers of other documents");
    let answered = |(document, likelihoods)| {
        let PreparedDocument { gold, lengths, .. }: &PreparedDocument = document;
        Answered { likelihoods, gold: *gold, lengths }
    };
    let likelihoods = likelihoods.iter().map(Vec::as_slice);
    let answered: Vec<Answered<'_>> = task.documents.iter().zip(likelihoods).map(answered).collect();
    metrics::score(task.task.metrics, &answered, resamples)
}
