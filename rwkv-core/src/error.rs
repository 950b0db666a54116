//! What can go wrong between the library and its surroundings.

use std::path::PathBuf;

/// The result of an operation that reads or writes files, or takes a user's values.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that names the thing, the place and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "create", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file was read but is not what it should be.
    #[error("{} {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence that begins with the file's name.
        problem: String,
    },
    /// A checkpoint's tensors are not those of the model.
    #[error("{}: tensor {key}: expected {expected}, found {found}", path.display())]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's official name.
        key: String,
        /// What the model needs.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A checkpoint of something other than a plain RWKV-4.
    #[error("{} holds {found}, as {evidence} shows; {remedy}", path.display())]
    OtherModel {
        /// The checkpoint.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What gives it away: "its tensor …", "its entry …".
        evidence: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A model could not be fetched from a model hub.
    #[error("cannot get {model} from {endpoint}: {problem}")]
    Download {
        /// What was asked for, as the user wrote it.
        model: String,
        /// The hub's address.
        endpoint: String,
        /// What went wrong.
        problem: String,
    },
    /// A configuration value that cannot be used.
    #[error("{key}: expected {expected}, found {found}")]
    Config {
        /// The field's name.
        key: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A backend's device cannot be used.
    #[error("no device for backend {backend}: {problem}; is a driver installed? CPU backends need none")]
    Device {
        /// The backend's name.
        backend: &'static str,
        /// What the backend said.
        problem: String,
    },
    /// A character that the vocabulary lacks.
    #[error(
        "character {character:?} at position {position} of the text is not in the vocabulary of {vocab_size} characters"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its index, counted in characters from 0.
        position: usize,
        /// How many characters the vocabulary has.
        vocab_size: usize,
    },
    /// Logits that no token can be drawn from.
    #[error("the logits {problem}")]
    Logits {
        /// What is wrong with them, as the end of a sentence that begins with "the logits".
        problem: String,
    },
    /// A tokenizer that could not do its work.
    #[error("the {tokenizer} tokenizer {problem}")]
    Tokenizer {
        /// The tokenizer's name.
        tokenizer: &'static str,
        /// What went wrong, as the end of a sentence that begins with the tokenizer.
        problem: String,
    },
    /// A token id that the vocabulary does not reach.
    #[error("token {token} at position {position} is outside the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Its index in the sequence.
        position: usize,
        /// The vocabulary's size.
        vocab_size: usize,
    },
}

impl Error {
    /// An [`Error::Io`], for use with `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Format`].
    pub fn format(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Format { path: path.into(), problem: problem.into() }
    }

    /// An [`Error::Config`].
    pub fn config(key: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Config { key, expected: expected.into(), found: found.to_string() }
    }
}
