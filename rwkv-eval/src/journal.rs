//! Answers that an evaluation has, so that a killed one goes on.

use crate::error::Result;
use crate::request::{Likelihood, TokenRequest};
use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const FORMAT: &str = "rwkv-eval journal";
const VERSION: u32 = 1;

/// A file of answers, one a line, that grows as they come.
///
/// An answer is found by the model and the request's tokens: an evaluation with other settings, tasks or examples
/// finds those that it has in common with the one before, and none of another model's. A last line that was cut off while it
/// was written is taken away.
///
/// ```text
/// {"format":"rwkv-eval journal","version":1}
/// {"request":"5f…","log_likelihood":-12.5,"is_greedy":false}
/// ```
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    model: String,
    known: HashMap<String, Likelihood>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// XXH3-128 of the model and the tokens.
    request: String,
    log_likelihood: f64,
    is_greedy: bool,
}

impl Journal {
    /// Opens a journal, or begins one. `model` is all that answers depend on beside the tokens: the weights' fingerprint,
    /// their precision, the backend and the library's version.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is something else; then it stays as it was.
    pub fn open(path: &Path, model: &str) -> Result<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", path)(error).into()),
        };
        // Only whole lines count.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut known = HashMap::new();
        let mut lines = text[..whole].split_inclusive(|&byte| byte == b'\n').enumerate();
        if let Some((_, header)) = lines.next() {
            let header: Option<Header> = serde_json::from_slice(header).ok();
            if !header.is_some_and(|header| header.format == FORMAT && header.version == VERSION) {
                return Err(Error::format(path, "is no journal of this version of the library; remove it").into());
            }
        } else if !text.is_empty() && !FORMAT_LINE.as_bytes().starts_with(&text) {
            return Err(Error::format(path, "is no journal of this library").into());
        }
        for (i, line) in lines {
            let bad = |error| Error::format(path, format!("is damaged in line {}: {error}; remove it", i + 1));
            let Line { request, log_likelihood, is_greedy } = serde_json::from_slice(line).map_err(bad)?;
            known.insert(request, Likelihood { log_likelihood, is_greedy });
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
        file.set_len(whole as u64).map_err(Error::io("write", path))?;
        if whole == 0 {
            file.write_all(FORMAT_LINE.as_bytes()).map_err(Error::io("write", path))?;
        }
        Ok(Self { path: path.to_path_buf(), file, model: model.to_owned(), known })
    }

    /// The answer to a request, if it is known.
    #[must_use]
    pub fn get(&self, request: &TokenRequest) -> Option<Likelihood> {
        self.known.get(&self.key(request)).copied()
    }

    /// How many answers were in the file when it was opened, of whatever evaluation, and came since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Writes down an answer.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn record(&mut self, request: &TokenRequest, likelihood: Likelihood) -> Result<()> {
        let key = self.key(request);
        let Likelihood { log_likelihood, is_greedy } = likelihood;
        let line = Line { request: key.clone(), log_likelihood, is_greedy };
        let bad = |error| Error::format(&self.path, format!("cannot hold an answer: {error}"));
        let mut line = serde_json::to_vec(&line).map_err(bad)?;
        line.push(b'\n');
        // In one piece, so that a killed process leaves at most one torn line.
        self.file.write_all(&line).map_err(Error::io("write", &self.path))?;
        self.known.insert(key, likelihood);
        Ok(())
    }

    /// Takes the file away, when all that it was for is done.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self) -> Result<()> {
        drop(self.file);
        Ok(std::fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?)
    }

    fn key(&self, request: &TokenRequest) -> String {
        let mut hash = Xxh3::new();
        hash.update(self.model.as_bytes());
        hash.update(&[0]);
        hash.update(&(request.context.len() as u64).to_le_bytes());
        request.context.iter().chain(&request.continuation).for_each(|token| hash.update(&token.to_le_bytes()));
        format!("{:032x}", hash.digest128())
    }
}

/// The first line; what a killed process left of it is a beginning of this.
const FORMAT_LINE: &str = "{\"format\":\"rwkv-eval journal\",\"version\":1}\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: &[u32], continuation: &[u32]) -> TokenRequest {
        TokenRequest { context: context.to_vec(), continuation: continuation.to_vec() }
    }

    #[test]
    fn answers_survive_a_cut_at_every_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let answers = [
            (request(&[1, 2], &[3]), Likelihood { log_likelihood: -1.25e-7, is_greedy: true }),
            (request(&[1], &[2, 3]), Likelihood { log_likelihood: -0.1 - 0.2, is_greedy: false }),
        ];
        let mut journal = Journal::open(&path, "model").expect("opened");
        for (request, likelihood) in &answers {
            journal.record(request, *likelihood).expect("recorded");
        }
        let whole = std::fs::read(&path).expect("read");
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            let mut journal = Journal::open(&path, "model").unwrap_or_else(|error| panic!("{length}: {error}"));
            let lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(journal.len(), lines.saturating_sub(1));
            for (request, likelihood) in &answers[journal.len()..] {
                assert_eq!(journal.get(request), None);
                journal.record(request, *likelihood).expect("recorded");
            }
            let journal = Journal::open(&path, "model").expect("opened again");
            answers.iter().for_each(|(request, likelihood)| assert_eq!(journal.get(request), Some(*likelihood)));
            assert_eq!(std::fs::read(&path).expect("read"), whole);
        }
    }

    #[test]
    fn answers_of_another_model_are_not_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let asked = request(&[1, 2], &[3]);
        let answer = Likelihood { log_likelihood: -1.0, is_greedy: true };
        Journal::open(&path, "one").expect("opened").record(&asked, answer).expect("recorded");
        assert_eq!(Journal::open(&path, "other").expect("opened").get(&asked), None);
        let journal = Journal::open(&path, "one").expect("opened");
        assert_eq!(journal.get(&asked), Some(answer));
        assert_eq!(journal.get(&request(&[1], &[2, 3])), None, "the same tokens, cut elsewhere");
    }

    #[test]
    fn other_files_and_damaged_ones_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let header = "{\"format\":\"rwkv-eval journal\",\"version\":1}\n";
        for text in ["notes", "notes\nmore\n", &format!("{header}{{\"request\":1}}\n"), &header.replace('1', "2")] {
            std::fs::write(&path, text).expect("written");
            let said = Journal::open(&path, "model").expect_err("refused").to_string();
            assert!(said.contains("journal"), "{said}");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), *text);
        }
        assert_eq!(
            FORMAT_LINE.trim_end(),
            serde_json::to_string(&Header { format: FORMAT.into(), version: VERSION }).expect("JSON")
        );
    }
}
