//! Writing a token file document by document.

use super::{HEADER, MAGIC, TokenType, VERSION, paths, with_suffix};
use crate::error::{Error, Result};
use rwkv_core::error::Error as CoreError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much of a token file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Written {
    /// Documents.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// Writes a token file document by document, in memory that does not grow.
///
/// Until [`Self::finish`] everything lies beside, in `PREFIX.bin.partial` and `PREFIX.sizes.partial`, so that no reader
/// ever sees half of a token file; what [`Self::sync`] has returned [`Self::resume`] takes up again in another process.
#[derive(Debug)]
pub struct TokenFileWriter {
    files: Files,
    token_type: TokenType,
    bin: BufWriter<File>,
    sizes: BufWriter<File>,
    written: Written,
    buffer: Vec<u8>,
}

/// The places of a token file and of its parts.
#[derive(Debug)]
struct Files {
    bin: PathBuf,
    idx: PathBuf,
    bin_partial: PathBuf,
    idx_partial: PathBuf,
    sizes: PathBuf,
}

impl Files {
    fn new(prefix: &Path) -> Self {
        let (bin, idx) = paths(prefix);
        let (bin_partial, idx_partial) = (with_suffix(&bin, ".partial"), with_suffix(&idx, ".partial"));
        let sizes = with_suffix(&bin.with_extension(""), ".sizes.partial");
        Self { bin, idx, bin_partial, idx_partial, sizes }
    }

    /// Refuses to write over a file.
    fn refuse(&self, paths: &[&PathBuf]) -> Result<()> {
        match paths.iter().find(|path| path.exists()) {
            Some(path) => Err(CoreError::format(*path, "exists already and is not overwritten").into()),
            None => Ok(()),
        }
    }
}

impl TokenFileWriter {
    /// Begins `PREFIX.bin` and `PREFIX.idx`.
    ///
    /// # Errors
    /// [`CoreError::Format`] when there is one already, finished or not; [`CoreError::Io`].
    pub fn create(prefix: &Path, token_type: TokenType) -> Result<Self> {
        let files = Files::new(prefix);
        files.refuse(&[&files.bin, &files.idx, &files.bin_partial])?;
        let create = |path: &Path| File::create(path).map_err(CoreError::io("create", path));
        let (bin, sizes) = (create(&files.bin_partial)?, create(&files.sizes)?);
        Ok(Self::over(files, token_type, bin, sizes, Written::default()))
    }

    /// Goes on where [`Self::sync`] said, and forgets what was written after that.
    ///
    /// # Errors
    /// [`CoreError::Format`] when the file is finished or less of it is there than was said; [`CoreError::Io`].
    pub fn resume(prefix: &Path, token_type: TokenType, written: Written) -> Result<Self> {
        let files = Files::new(prefix);
        files.refuse(&[&files.idx])?;
        if written.tokens > 0 && files.bin.exists() && files.sizes.exists() && !files.bin_partial.exists() {
            // Interrupted between the two renames of `finish`.
            std::fs::rename(&files.bin, &files.bin_partial).map_err(CoreError::io("write", &files.bin))?;
        }
        let open = |path: &Path, wanted: u64| {
            let mut options = OpenOptions::new();
            options.write(true).truncate(false).create(wanted == 0);
            let mut file = options.open(path).map_err(CoreError::io("write", path))?;
            let length = file.metadata().map_err(CoreError::io("read", path))?.len();
            if length < wanted {
                return Err(CoreError::format(
                    path,
                    format!("should have {wanted} bytes to go on from; it has {length}"),
                ));
            }
            file.set_len(wanted).map_err(CoreError::io("write", path))?;
            file.seek(SeekFrom::End(0)).map_err(CoreError::io("write", path))?;
            Ok(file)
        };
        let bin = open(&files.bin_partial, written.tokens * token_type.width() as u64)?;
        let sizes = open(&files.sizes, written.documents * 4)?;
        Ok(Self::over(files, token_type, bin, sizes, written))
    }

    fn over(files: Files, token_type: TokenType, bin: File, sizes: File, written: Written) -> Self {
        let (bin, sizes) = (BufWriter::with_capacity(1 << 20, bin), BufWriter::with_capacity(1 << 16, sizes));
        Self { files, token_type, bin, sizes, written, buffer: Vec::new() }
    }

    /// Appends a document.
    ///
    /// # Errors
    /// [`Error::TokenOutside`] for an id that the type of token cannot hold, [`CoreError::Format`] for a document of 2³¹
    /// tokens or more, which the format cannot hold, [`CoreError::Io`].
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        let largest = self.token_type.max_id();
        if let Some(position) = tokens.iter().position(|&token| token > largest) {
            return Err(Error::TokenOutside {
                place: self.files.bin.display().to_string(),
                token: i64::from(tokens[position]),
                offset: self.written.tokens + position as u64,
                vocab_size: largest as usize + 1,
            });
        }
        let Ok(size) = i32::try_from(tokens.len()) else {
            let problem = format!("cannot hold a document of {} tokens; 2147483647 are the most", tokens.len());
            return Err(CoreError::format(&self.files.bin, problem).into());
        };
        self.buffer.clear();
        for &token in tokens {
            self.token_type.encode(token, &mut self.buffer);
        }
        self.bin.write_all(&self.buffer).map_err(CoreError::io("write", &self.files.bin_partial))?;
        self.sizes.write_all(&size.to_le_bytes()).map_err(CoreError::io("write", &self.files.sizes))?;
        self.written.documents += 1;
        self.written.tokens += tokens.len() as u64;
        Ok(())
    }

    /// How much is written.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    /// Brings everything to the disk, and says how much that is: what [`Self::resume`] needs.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn sync(&mut self) -> Result<Written> {
        for (file, path) in [(&mut self.bin, &self.files.bin_partial), (&mut self.sizes, &self.files.sizes)] {
            file.flush().and_then(|()| file.get_ref().sync_data()).map_err(CoreError::io("write", path))?;
        }
        Ok(self.written)
    }

    /// Writes the index and gives both files their names, the `.idx` last.
    ///
    /// # Errors
    /// [`CoreError::Format`] when there is not one token; [`CoreError::Io`].
    pub fn finish(mut self) -> Result<Written> {
        if self.written.tokens == 0 {
            return Err(CoreError::format(&self.files.bin, "would have no tokens").into());
        }
        self.sync()?;
        let Files { bin, idx, bin_partial, idx_partial, sizes } = &self.files;
        self.write_index().map_err(CoreError::io("write", idx_partial))?;
        std::fs::rename(bin_partial, bin).map_err(CoreError::io("write", bin))?;
        std::fs::rename(idx_partial, idx).map_err(CoreError::io("write", idx))?;
        #[cfg(unix)]
        {
            let folder = bin.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(CoreError::io("write", folder))?;
        }
        std::fs::remove_file(sizes).map_err(CoreError::io("remove", sizes))?;
        Ok(self.written)
    }

    /// Removes what is not finished.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn discard(self) -> Result<()> {
        for path in [&self.files.bin_partial, &self.files.sizes] {
            std::fs::remove_file(path).map_err(CoreError::io("remove", path))?;
        }
        Ok(())
    }

    fn write_index(&self) -> std::io::Result<()> {
        let Written { documents, .. } = self.written;
        let mut out = BufWriter::new(File::create(&self.files.idx_partial)?);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[self.token_type.code()])?;
        out.write_all(&documents.to_le_bytes())?;
        out.write_all(&(documents + 1).to_le_bytes())?;
        debug_assert_eq!(MAGIC.len() + 8 + 1 + 16, HEADER);
        // The lengths are read once for themselves and once for the places that they add up to.
        let mut sizes = File::open(&self.files.sizes)?;
        std::io::copy(&mut sizes, &mut out)?;
        sizes.seek(SeekFrom::Start(0))?;
        let (mut sizes, mut place) = (BufReader::new(sizes), 0i64);
        for _ in 0..documents {
            out.write_all(&place.to_le_bytes())?;
            let mut size = [0; 4];
            sizes.read_exact(&mut size)?;
            place += i64::from(i32::from_le_bytes(size)) * self.token_type.width() as i64;
        }
        for document in 0..=documents {
            out.write_all(&document.to_le_bytes())?;
        }
        out.into_inner()?.sync_all()
    }
}
