//! Reading a token file where it lies on disk.

use super::index::Index;
use super::{TokenType, paths};
use crate::error::Result;
use memmap2::Mmap;
use rwkv_core::files::map;
use std::path::{Path, PathBuf};

/// A token file, mapped into memory: it takes none that the system could not take back.
///
/// # Example
/// ```
/// use rwkv_train::data::{TokenFile, TokenFileWriter, TokenType};
/// let folder = tempfile::tempdir().unwrap();
/// let prefix = folder.path().join("corpus");
/// let mut writer = TokenFileWriter::create(&prefix, TokenType::U16).unwrap();
/// writer.push(&[7, 8, 0]).unwrap();
/// writer.push(&[9, 0]).unwrap();
/// writer.finish().unwrap();
///
/// let file = TokenFile::open(&prefix).unwrap();
/// assert_eq!((file.len(), file.documents()), (5, 2));
/// assert_eq!(file.get(1, 3), [8, 0, 9]);
/// assert_eq!(file.document_starts(0, 5).collect::<Vec<_>>(), [0, 3]);
/// ```
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    bin: Mmap,
    index: Index,
}

impl TokenFile {
    /// Opens `PREFIX.bin` and `PREFIX.idx`; the prefix may end in either.
    ///
    /// # Errors
    /// [`rwkv_core::error::Error`] when one cannot be read, [`crate::error::Error::TokenFile`] for the first number of the index that
    /// does not fit the files.
    pub fn open(prefix: &Path) -> Result<Self> {
        let (bin_path, idx_path) = paths(prefix);
        let (index, bin) = (map(&idx_path)?, map(&bin_path)?);
        let index = Index::new(index, &idx_path, bin.len() as u64)?;
        Ok(Self { path: bin_path, bin, index })
    }

    /// The `.bin`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How tokens are held.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.index.token_type
    }

    /// Tokens in all documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bin.len() / self.token_type().width()
    }

    /// Whether there is no token; files like that are refused when they are opened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bin.is_empty()
    }

    /// How many documents there are.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.index.documents()
    }

    /// `len` tokens from `start` on, across the documents.
    ///
    /// # Panics
    /// When the file has not that many.
    #[must_use]
    pub fn get(&self, start: usize, len: usize) -> Vec<u32> {
        assert!(start <= self.len() && len <= self.len() - start, "{len} tokens at {start} of {}", self.len());
        let width = self.token_type().width();
        self.token_type().decode(&self.bin[start * width..(start + len) * width])
    }

    /// The tokens from `start` to before `end` that begin a document, in rising order.
    pub fn document_starts(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let first = self.index.documents_before(start);
        let starts = (first..self.documents()).map(|document| self.index.start(document));
        let mut before = None;
        // Documents without a token begin where the next one does.
        starts.take_while(move |&token| token < end).filter(move |&token| before.replace(token) != Some(token))
    }
}
