//! Worked examples before a question.

use super::{PythonRandom, Task};
use crate::data::Row;
use crate::error::Result;
use rwkv_core::error::Error;

/// Draws worked examples, for one document after the other.
///
/// One generator serves all documents of a task in their order, as in the reference harness: with its seed (1234 there) the
/// examples are the harness's. For a task without a test split the harness draws one example more than it needs, in case the
/// document is among them, and drops the last where it is not; so does this. Where examples come from the split that is
/// asked, as LAMBADA's do, a document is never its own example; there the harness excludes nothing, and draws other ones.
///
/// # Source
/// lm-evaluation-harness 0.4: `fewshot_context` in `api/task.py` and `ContextSampler.sample` in `api/samplers.py`.
#[derive(Debug)]
pub struct FewShot {
    examples: Vec<String>,
    count: usize,
    random: PythonRandom,
    /// Examples that are drawn beyond those, in case the document is among them.
    spare: usize,
    /// Whether the examples are the documents that are asked.
    own_split: bool,
}

impl FewShot {
    /// Draws `count` examples from `rows` for every document of `task`; `own_split` says that those are the documents that
    /// are asked.
    ///
    /// # Errors
    /// When there are too few rows, or one is not what the task needs.
    pub fn new(task: &Task, rows: &[Row], count: usize, seed: u64, own_split: bool) -> Result<Self> {
        let spare = usize::from(own_split || !task.has_test_split);
        let needed = if count > 0 { count + spare } else { 0 };
        if rows.len() < needed {
            let found = format!("{} in split {} of {}", rows.len(), task.few_shot_split, task.name);
            return Err(Error::config("num_fewshot", format!("at least {needed} rows to draw from"), found).into());
        }
        let example = |row| Ok((task.document)(row)?.example());
        let examples = if count > 0 { rows.iter().map(example).collect::<Result<_>>()? } else { Vec::new() };
        Ok(Self { examples, count, random: PythonRandom::new(seed), spare, own_split })
    }

    /// The examples before document `index`, put together.
    pub fn draw(&mut self, index: usize) -> String {
        if self.count == 0 {
            return String::new();
        }
        let drawn = self.random.sample(self.examples.len(), self.count + self.spare);
        let others = drawn.into_iter().filter(|&i| !(self.own_split && i == index));
        others.take(self.count).map(|i| self.examples[i].as_str()).collect()
    }
}
