//! The rows of a split, from whatever files it comes in.

use super::{Row, json, jsonl, parquet};
use crate::error::{Error, Result};
use rwkv_core::error::Error as CoreError;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows of a split of a task.
///
/// They are in `DIR/TASK/`, in the first of these that is there:
/// - `SPLIT.jsonl`, an object on each line;
/// - `SPLIT.json`, an array of objects, alone or as `data` of an object; what the hub's viewer returns, `{"rows": [{"row":
///   …}, …]}`; or an object of columns, arrays of one length;
/// - `SPLIT.parquet`; `SPLIT-00000-of-00002.parquet`, …; or `SPLIT/0000.parquet`, `SPLIT/0001.parquet`, … as the hub has it.
///
/// # Errors
/// [`Error::NoSplit`] that lists what is there; [`Error::Document`] for a broken line or row; [`Error::Core`] for a file that
/// cannot be read, a shard that is missing, or a split without rows.
///
/// # Example
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// std::fs::create_dir(folder.path().join("piqa")).unwrap();
/// std::fs::write(folder.path().join("piqa/validation.jsonl"), "{\"goal\": \"Boil an egg.\", \"label\": 1}\n").unwrap();
/// let rows = rwkv_eval::data::read_split(folder.path(), "piqa", "validation").unwrap();
/// assert_eq!(rows[0].text("goal").unwrap(), "Boil an egg.");
/// assert!(rwkv_eval::data::read_split(folder.path(), "piqa", "test").unwrap_err().to_string().contains("validation"));
/// ```
pub fn read_split(dir: &Path, task: &str, split: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let files = split_files(dir, task, split)?;
    for file in &files {
        rows.extend(read_rows(file)?);
    }
    // A shard may be empty, a split may not.
    match files.last() {
        Some(file) if rows.is_empty() => Err(CoreError::format(file, "holds no rows").into()),
        _ => Ok(rows),
    }
}

/// The rows of one file: JSON lines, JSON or Parquet, by its ending.
///
/// # Errors
/// As [`read_split`].
pub fn read_rows(file: &Path) -> Result<Vec<Row>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => jsonl::read(file),
        Some("json") => json::read(file),
        _ => parquet::read(file),
    }
}

/// The files that [`read_split`] reads, in order: what a report hashes.
///
/// # Errors
/// As [`read_split`], except for what is in the files.
pub fn split_files(dir: &Path, task: &str, split: &str) -> Result<Vec<PathBuf>> {
    let folder = dir.join(task);
    for ending in ["jsonl", "json", "parquet"] {
        let file = folder.join(format!("{split}.{ending}"));
        if file.is_file() {
            return Ok(vec![file]);
        }
    }
    let numbered = numbered(&folder, split)?;
    if !numbered.is_empty() {
        return Ok(numbered);
    }
    let in_folder = in_folder(&folder.join(split))?;
    if !in_folder.is_empty() {
        return Ok(in_folder);
    }
    let place = |name: &str| format!("{task}/{name}");
    let looked_for = [
        place(&format!("{split}.jsonl")),
        place(&format!("{split}.json")),
        place(&format!("{split}.parquet")),
        place(&format!("{split}-00000-of-00001.parquet")),
        place(&format!("{split}/0000.parquet")),
    ];
    Err(Error::NoSplit {
        folder: dir.to_path_buf(),
        task: task.to_owned(),
        split: split.to_owned(),
        looked_for: looked_for.join(", "),
        there: there(dir, task)?,
    })
}

/// `SPLIT-00000-of-00002.parquet` and its like, all of them or an error.
fn numbered(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let shard = |name: &str| -> Option<(usize, usize)> {
        let rest = name.strip_prefix(split)?.strip_prefix('-')?.strip_suffix(".parquet")?;
        let (number, count) = rest.split_once("-of-")?;
        Some((number.parse().ok()?, count.parse().ok()?))
    };
    let mut shards: Vec<((usize, usize), String)> =
        names(folder)?.into_iter().filter_map(|name| Some((shard(&name)?, name))).collect();
    // By number first, so that a second set of shards cannot pass for the rest of the first.
    shards.sort();
    for (place, ((number, count), name)) in shards.iter().enumerate() {
        if *number != place || *count != shards.len() {
            let path = folder.join(name);
            let problem = format!("is one of {count} shards, numbered from 0; {} are there", shards.len());
            return Err(CoreError::format(path, problem).into());
        }
    }
    Ok(shards.into_iter().map(|(_, name)| folder.join(name)).collect())
}

/// `0000.parquet`, `0001.parquet` and so on.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let shard =
        |name: String| -> Option<(usize, String)> { Some((name.strip_suffix(".parquet")?.parse().ok()?, name)) };
    let mut shards: Vec<(usize, String)> = names(folder)?.into_iter().filter_map(shard).collect();
    shards.sort();
    if let Some((place, _)) = shards.iter().enumerate().find(|(place, (number, _))| place != number) {
        let file = folder.join(format!("{place:04}.parquet"));
        return Err(CoreError::format(file, "is missing, and shards after it are there").into());
    }
    Ok(shards.into_iter().map(|(_, name)| folder.join(name)).collect())
}

/// What there is instead of the split, as a clause.
fn there(dir: &Path, task: &str) -> Result<String> {
    let join = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let folder = dir.join(task);
    if !dir.is_dir() {
        return Ok("there is no such folder".to_owned());
    }
    if !folder.is_dir() {
        let tasks: BTreeSet<String> = names(dir)?.into_iter().filter(|name| dir.join(name).is_dir()).collect();
        let tasks = if tasks.is_empty() { "no folders".to_owned() } else { format!("folders {}", join(tasks)) };
        return Ok(format!("there is no folder {task}, but {tasks}"));
    }
    let split = |name: String| -> Option<String> {
        if folder.join(&name).is_dir() {
            let files = names(&folder.join(&name)).unwrap_or_default();
            return files.iter().any(|file| file.ends_with(".parquet")).then_some(name);
        }
        let (stem, ending) = name.rsplit_once('.')?;
        let stem = if stem.contains("-of-") { stem.rsplitn(4, '-').last()? } else { stem };
        ["jsonl", "json", "parquet"].contains(&ending).then(|| stem.to_owned())
    };
    let splits: BTreeSet<String> = names(&folder)?.into_iter().filter_map(split).collect();
    let splits = if splits.is_empty() { "no splits".to_owned() } else { format!("splits {}", join(splits)) };
    Ok(format!("{task} has {splits}"))
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(CoreError::io("read", folder))?;
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    // Unfinished files begin with a dot.
    Ok(entries.into_iter().filter_map(name).filter(|name| !name.starts_with('.')).collect())
}
