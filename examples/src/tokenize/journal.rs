//! What is done, written down after every batch, so that another process can go on.

use super::input::{File, Position};
use crate::Failure;
use rwkv_core::error::Error;
use rwkv_core::files::{remove_leftovers, write_atomic};
use rwkv_train::data::{TokenFileWriter, TokenType, Written};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What determines the token file, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) tokenizer: File,
    pub(super) files: Vec<File>,
    pub(super) field: String,
    pub(super) end_of_document: bool,
    pub(super) token_type: TokenType,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) position: Position,
    pub(super) written: Written,
    /// Bytes of the files.
    pub(super) read: u64,
    /// Bytes of text.
    pub(super) bytes: u64,
    /// Documents without text.
    pub(super) empty: u64,
}

/// The files beside the output that say what the work is, once, and how far it has come.
pub(super) struct Journal {
    job: PathBuf,
    done: PathBuf,
}

impl Journal {
    /// Begins a token file, or goes on with the one that is there.
    pub(super) fn open(out: &Path, job: &Job, resume: bool) -> Result<(Self, TokenFileWriter, Done), Failure> {
        let beside = |suffix: &str| {
            let mut name = OsString::from(out);
            name.push(suffix);
            PathBuf::from(name)
        };
        let journal = Self { job: beside(".job.partial"), done: beside(".done.partial") };
        let partial = beside(".bin.partial");
        // Killed while it wrote its journal, or the index.
        for file in [&journal.job, &journal.done, &beside(".idx")] {
            remove_leftovers(file)?;
        }
        if resume && journal.done.exists() {
            let done = journal.read(job)?;
            let writer = TokenFileWriter::resume(out, job.token_type, done.written)?;
            write_json(&journal.job, job)?;
            return Ok((journal, writer, done));
        }
        if !resume && let Some(left) = [&partial, &journal.done].into_iter().find(|path| path.exists()) {
            let remedy = "go on with it by --resume, or remove it";
            return Err(Failure(format!("{} is left of an interrupted run; {remedy}", left.display())));
        }
        // Interrupted before the first batch was done, there is nothing to go on from.
        let writer = if resume && partial.exists() && !beside(".bin").exists() {
            TokenFileWriter::resume(out, job.token_type, Written::default())?
        } else {
            TokenFileWriter::create(out, job.token_type)?
        };
        write_json(&journal.job, job)?;
        Ok((journal, writer, Done::default()))
    }

    fn read(&self, job: &Job) -> Result<Done, Failure> {
        let (mut before, done): (Job, Done) = (read_json(&self.job)?, read_json(&self.done)?);
        // What is not read yet may have changed.
        let read = done.position.file + usize::from(done.position.offset > 0);
        for (file, now) in before.files.iter_mut().zip(&job.files).skip(read) {
            if file.path == now.path && file.documents == now.documents {
                file.clone_from(now);
            }
        }
        let name = |file: Option<&File>| file.map_or("nothing".into(), |file| file.path.display().to_string());
        let changed = (0..before.files.len().max(job.files.len()))
            .map(|i| (before.files.get(i), job.files.get(i)))
            .find(|(before, now)| before != now)
            .map(|(before, now)| format!("{} where there was {}, or it has changed", name(now), name(before)))
            .or_else(|| (before.tokenizer != job.tokenizer).then(|| "another tokenizer, or it has changed".into()))
            .or_else(|| (before != *job).then(|| "other values of --field, --no-eod or --dtype".into()));
        match changed {
            None => Ok(done),
            Some(changed) => Err(Failure(format!(
                "{} belongs to another job: there is {changed}; remove the .partial files to begin anew",
                self.done.display()
            ))),
        }
    }

    /// Writes down what is done; the writer has brought it to the disk.
    pub(super) fn save(&self, done: &Done) -> Result<(), Failure> {
        write_json(&self.done, done)
    }

    /// The end of the work.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        for path in [&self.done, &self.job] {
            if path.exists() {
                std::fs::remove_file(path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    Ok(write_atomic(path, &serde_json::to_vec(value)?)?)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let json = std::fs::read(path).map_err(Error::io("read", path))?;
    let problem = |error| Error::format(path, format!("is not of this program: {error}"));
    Ok(serde_json::from_slice(&json).map_err(problem)?)
}
