//! The documents of files, folders and stdin, in order.

use super::{Args, Format};
use crate::Failure;
use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The name that stands for stdin.
pub(super) const STDIN: &str = "-";

/// What is a document in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Documents {
    /// All of it.
    Whole,
    /// Every line.
    Lines,
    /// A field of every line.
    Jsonl,
}

/// A file, and what tells whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) documents: Documents,
    /// Bytes; nothing for stdin.
    pub(super) len: Option<u64>,
    /// Nanoseconds since 1970, where the system knows.
    modified: Option<u64>,
}

impl File {
    fn new(path: PathBuf, documents: Documents) -> Result<Self, Failure> {
        let metadata = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|time| u64::try_from(time.as_nanos()).ok());
        Ok(Self { path, documents, len: Some(metadata.len()), modified })
    }

    /// The tokenizer's file; `byte` has none.
    pub(super) fn tokenizer(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("byte") {
            return Ok(Self { path: path.into(), documents: Documents::Whole, len: None, modified: None });
        }
        Self::new(path.into(), Documents::Whole)
    }

    fn is_stdin(&self) -> bool {
        self.path == Path::new(STDIN)
    }
}

/// The files that the user names, folders replaced by what is in them.
pub(super) fn find(args: &Args) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for path in &args.input {
        if path == Path::new(STDIN) {
            files.push(File { path: path.clone(), documents: documents(args, path), len: None, modified: None });
        } else if path.is_dir() {
            refuse_output_in(path, &args.out)?;
            find_in(path, args, &mut files)?;
        } else {
            files.push(File::new(path.clone(), documents(args, path))?);
        }
    }
    if files.is_empty() {
        return Err(Failure(format!("{} has no files in it", args.input[0].display())));
    }
    Ok(files)
}

/// A folder that the output grows in has another content after every interruption.
fn refuse_output_in(folder: &Path, out: &Path) -> Result<(), Failure> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = match (std::fs::canonicalize(parent), std::fs::canonicalize(folder)) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false, // creating the output says what is wrong
    };
    match inside {
        true => Err(Failure(format!("{} lies in the input folder {}", out.display(), folder.display()))),
        false => Ok(()),
    }
}

/// Files in a folder and the folders in it, by name; hidden ones and links to folders are passed over.
fn find_in(folder: &Path, args: &Args, files: &mut Vec<File>) -> Result<(), Failure> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(Error::io("read", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(Error::io("read", &path))?.is_dir() {
            find_in(&path, args, files)?;
        } else if path.is_file() {
            files.push(File::new(path.clone(), documents(args, &path))?);
        }
    }
    Ok(())
}

fn documents(args: &Args, path: &Path) -> Documents {
    let named = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
    match args.format {
        Format::Jsonl => Documents::Jsonl,
        Format::Auto if named => Documents::Jsonl,
        _ if args.split_lines => Documents::Lines,
        _ => Documents::Whole,
    }
}

/// The next document's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// The file's number.
    pub(super) file: usize,
    /// Bytes of it that are read.
    pub(super) offset: u64,
    /// Lines of it that are read.
    line: u64,
}

/// Reads documents one after the other.
pub(super) struct Reader<'a> {
    files: &'a [File],
    position: Position,
    open: Option<Box<dyn BufRead>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a [File], position: Position) -> Self {
        Self { files, position, open: None }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The next documents, until they have so many bytes; none at the end.
    pub(super) fn batch(&mut self, bytes: usize) -> Result<Vec<Raw>, Failure> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while size < bytes.max(1) {
            let Some(raw) = self.next()? else { break };
            size += raw.bytes.len().max(1);
            batch.push(raw);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<Raw>, Failure> {
        while let Some(file) = self.files.get(self.position.file) {
            let input = match &mut self.open {
                Some(input) => input,
                closed => closed.insert(open(file, self.position.offset)?),
            };
            let mut bytes = Vec::new();
            let whole = file.documents == Documents::Whole;
            let read = if whole { input.read_to_end(&mut bytes) } else { input.read_until(b'\n', &mut bytes) };
            let read = read.map_err(Error::io("read", &file.path))? as u64;
            self.position.offset += read;
            self.position.line += 1;
            let raw = Raw { file: self.position.file, line: self.position.line, bytes, read };
            if whole || read == 0 {
                self.open = None;
                self.position = Position { file: self.position.file + 1, ..Position::default() };
            }
            if whole || read > 0 {
                return Ok(Some(raw));
            }
        }
        Ok(None)
    }
}

fn open(file: &File, offset: u64) -> Result<Box<dyn BufRead>, Failure> {
    if file.is_stdin() {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let mut input = std::fs::File::open(&file.path).map_err(Error::io("read", &file.path))?;
    input.seek(SeekFrom::Start(offset)).map_err(Error::io("read", &file.path))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, input)))
}

/// A document as it was read.
pub(super) struct Raw {
    file: usize,
    /// Counted from 1.
    line: u64,
    bytes: Vec<u8>,
    /// Bytes that were read for it.
    pub(super) read: u64,
}

impl Raw {
    /// Its text; none where a line has none.
    pub(super) fn text(&self, files: &[File], field: &str) -> Result<Cow<'_, str>, Failure> {
        let text = |bytes| {
            std::str::from_utf8(bytes)
                .map_err(|error| self.failure(files, &format!("is not UTF-8, from byte {} on", error.valid_up_to())))
        };
        if files[self.file].documents == Documents::Whole {
            return text(&self.bytes).map(Cow::from);
        }
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if files[self.file].documents == Documents::Lines {
            return text(line).map(Cow::from);
        }
        if line.trim_ascii().is_empty() {
            return Ok(Cow::from(""));
        }
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
            .map_err(|error| self.failure(files, &format!("is not a JSON object: {error}")))?;
        match object.get(field) {
            Some(serde_json::Value::String(text)) => Ok(Cow::from(text.clone())),
            Some(_) => Err(self.failure(files, &format!("has no text in its field {field:?}"))),
            None => Err(self.failure(files, &format!("has no field {field:?}"))),
        }
    }

    /// What is wrong with it, and where it stands.
    pub(super) fn failure(&self, files: &[File], problem: &dyn Display) -> Failure {
        let file = &files[self.file];
        let name = if file.is_stdin() { "stdin".into() } else { file.path.display().to_string() };
        match file.documents {
            Documents::Whole => Failure(format!("{name}: {problem}")),
            _ => Failure(format!("{name}, line {}: {problem}", self.line)),
        }
    }
}
