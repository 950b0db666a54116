//! What can go wrong in an evaluation.

use std::path::{Path, PathBuf};

/// The result of an evaluation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that names the thing, the place and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document is not what its task needs.
    #[error("{}, {} {line}: {problem}", file.display(), counted(file))]
    Document {
        /// The data file.
        file: PathBuf,
        /// Which line, or row, from 1.
        line: usize,
        /// What is wrong with it, as a clause.
        problem: String,
    },
    /// A document's request cannot be asked.
    #[error("{}, {} {line}: {source}", file.display(), counted(file))]
    Request {
        /// The data file.
        file: PathBuf,
        /// Which line, or row, from 1.
        line: usize,
        /// Why not, as [`Error::Memory`].
        source: Box<Error>,
    },
    /// There is no data for a task.
    #[error("there is no split {split} of {task} in {}: looked for {looked_for}; {there}", folder.display())]
    NoSplit {
        /// Where tasks have their folders.
        folder: PathBuf,
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// The names that it could have had.
        looked_for: String,
        /// What is there instead, as a clause.
        there: String,
    },
    /// A request needs more memory than there is for it.
    #[error(
        "a request of {tokens} tokens needs about {needed} MB beside the weights, and {allowed} MB are allowed; \
         allow more memory or a smaller length"
    )]
    Memory {
        /// Tokens of the request.
        tokens: usize,
        /// The estimate, in MB.
        needed: usize,
        /// What is allowed, in MB.
        allowed: usize,
    },
    /// What the model's library says.
    #[error(transparent)]
    Core(#[from] rwkv_core::error::Error),
}

/// What a file's documents are counted in: those of JSON and Parquet stand on no line of their own.
fn counted(file: &Path) -> &'static str {
    let ending = file.extension().and_then(|ending| ending.to_str());
    if matches!(ending, Some("json" | "parquet")) { "row" } else { "line" }
}

impl Error {
    /// A document that is not what its task needs.
    pub fn document(file: &Path, line: usize, problem: impl Into<String>) -> Self {
        Self::Document { file: file.to_path_buf(), line, problem: problem.into() }
    }
}
