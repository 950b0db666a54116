//! Which files a task is read from.

use crate::Failure;
use rwkv_eval::data::{Row, read_split, split_files};
use rwkv_eval::runner;
use rwkv_eval::task::Task;
use std::path::Path;

/// Splits that may stand in for one that is not there. Never the one that models train on.
const STAND_INS: [&str; 2] = ["validation", "test"];

/// A task's data.
pub(super) struct Data {
    pub(super) task: &'static Task,
    pub(super) split: String,
    pub(super) rows: Vec<Row>,
    /// Documents that worked examples are drawn from, where they are of another split.
    examples: Option<Vec<Row>>,
    /// Whether worked examples are drawn from the split that is asked.
    own_split: bool,
    /// All files, with their hashes.
    pub(super) files: Vec<(String, String)>,
}

impl Data {
    /// Reads what a task needs from its folder in `dir`: the split that is named, or the harness's, or, where that is not
    /// there, another one, which is said.
    pub(super) fn read(
        dir: &Path,
        task: &'static Task,
        named: Option<&str>,
        num_fewshot: usize,
        download: bool,
    ) -> Result<Self, Failure> {
        if download {
            fetch(dir, task, named.unwrap_or(task.split))?;
            if num_fewshot > 0 {
                fetch(dir, task, task.few_shot_split)?;
            }
        }
        let stand_in = || STAND_INS.into_iter().find(|split| *split != task.split && is_there(dir, task, split));
        let split = match named {
            Some(split) => split,
            None if is_there(dir, task, task.split) => task.split,
            None => match stand_in() {
                Some(split) => {
                    eprintln!("{}: there is no split {}, as the harness has it; asking {split}", task.name, task.split);
                    split
                }
                None => task.split, // whose absence is an error
            },
        };
        let rows = read_split(dir, task.name, split)?;
        let mut files = runner::files(&rows)?;
        let own_split = task.few_shot_split == split;
        let examples = match num_fewshot > 0 && !own_split {
            true => Some(read_split(dir, task.name, task.few_shot_split)?),
            false => None,
        };
        files.extend(runner::files(examples.as_deref().unwrap_or_default())?);
        Ok(Self { task, split: split.to_owned(), rows, examples, own_split, files })
    }

    /// Where worked examples are drawn from.
    pub(super) fn examples(&self) -> (&[Row], bool) {
        match &self.examples {
            Some(rows) => (rows, false),
            None if self.own_split => (&self.rows, true),
            None => (&[], false), // nobody asked for any
        }
    }
}

/// Whether there is a file of a split, in any of the formats.
fn is_there(dir: &Path, task: &Task, split: &str) -> bool {
    split_files(dir, task.name, split).is_ok()
}

/// Fetches a split that is not there; says what arrives.
#[cfg(feature = "hub")]
fn fetch(dir: &Path, task: &Task, split: &str) -> Result<(), Failure> {
    let hub = rwkv_eval::data::hub::DataHub::from_env()?;
    hub.fetch(dir, task.name, split, &mut |progress| {
        if progress.done == progress.total {
            eprintln!("{}: {} bytes", progress.file, progress.total);
        }
    })?;
    Ok(())
}

#[cfg(not(feature = "hub"))]
fn fetch(_: &Path, _: &Task, _: &str) -> Result<(), Failure> {
    Err(Failure("--download is not compiled in; build with --features hub".to_owned()))
}
