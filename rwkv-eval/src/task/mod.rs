//! Tasks: which data, which prompt, which metrics.
//!
//! A task is a [`Task`] in the table of `table.rs` and a function from a row of data to a [`Document`] in `prompts.rs`.
//! Prompts, splits, metrics and versions are those of lm-evaluation-harness 0.4; a prompt that changes gets another version.

mod few_shot;
mod prompts;
mod python_random;
mod table;

pub use few_shot::FewShot;
pub use python_random::PythonRandom;
pub use table::TASKS;

use crate::data::Row;
use crate::error::Result;
use crate::metrics::Metric;
use rwkv_core::error::Error;

/// What stands between a question and its answer.
const ANSWER_DELIMITER: &str = " ";
/// What stands after a worked example.
const EXAMPLE_DELIMITER: &str = "\n\n";

/// A task.
#[derive(Debug)]
pub struct Task {
    /// Its name, which is its folder's under the data.
    pub name: &'static str,
    /// Of the prompt, as the reference harness counts it.
    pub version: u32,
    /// The split that is asked.
    pub split: &'static str,
    /// The split that worked examples are drawn from.
    pub few_shot_split: &'static str,
    /// Whether the harness's settings of the task name a test split. Without one, it draws an example more than it shows.
    pub has_test_split: bool,
    /// What is reported.
    pub metrics: &'static [Metric],
    /// From a row to a document.
    pub document: fn(&Row) -> Result<Document>,
}

impl Task {
    /// The task of this name.
    ///
    /// # Errors
    /// [`Error::Config`] that lists the names there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        TASKS.iter().find(|task| task.name == name).ok_or_else(|| {
            let names = TASKS.iter().map(|task| task.name).collect::<Vec<_>>().join(", ");
            Error::config("tasks", format!("some of {names}"), name).into()
        })
    }
}

/// A question, and what may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several answers after one context; each is scored.
    Choices {
        /// The text before, without white space at its end.
        context: String,
        /// The answers.
        choices: Vec<String>,
        /// Which one is right.
        gold: usize,
    },
    /// One text after several contexts; it is scored after each.
    Contexts {
        /// The texts before.
        contexts: Vec<String>,
        /// The text after them.
        continuation: String,
        /// Which context is right.
        gold: usize,
    },
    /// One text after another.
    Continuation {
        /// The text before.
        context: String,
        /// The text after, with its own space.
        continuation: String,
    },
}

impl Document {
    /// The pairs of texts to score, after worked examples.
    #[must_use]
    pub fn pairs(&self, examples: &str) -> Vec<(String, String)> {
        match self {
            Self::Choices { context, choices, .. } => {
                let pair = |choice| (format!("{examples}{context}"), format!("{ANSWER_DELIMITER}{choice}"));
                choices.iter().map(pair).collect()
            }
            Self::Contexts { contexts, continuation, .. } => {
                let pair = |context| (format!("{examples}{context}"), format!("{ANSWER_DELIMITER}{continuation}"));
                contexts.iter().map(pair).collect()
            }
            Self::Continuation { context, continuation } => {
                vec![(format!("{examples}{context}"), continuation.clone())]
            }
        }
    }

    /// The document as a worked example: question, delimiter, right answer, and an empty line.
    ///
    /// A text that brings its own space has two of them there, as in the reference harness.
    #[must_use]
    pub fn example(&self) -> String {
        let (context, answer) = match self {
            Self::Choices { context, choices, gold } => (context, &choices[*gold]),
            Self::Contexts { contexts, continuation, gold } => (&contexts[*gold], continuation),
            Self::Continuation { context, continuation } => (context, continuation),
        };
        format!("{context}{ANSWER_DELIMITER}{answer}{EXAMPLE_DELIMITER}")
    }

    /// Which pair is right; none where there is no choice.
    #[must_use]
    pub fn gold(&self) -> Option<usize> {
        match self {
            Self::Choices { gold, .. } | Self::Contexts { gold, .. } => Some(*gold),
            Self::Continuation { .. } => None,
        }
    }

    /// Lengths that [`Metric::AccNorm`] divides by: of the choices, in Unicode code points, without the delimiter.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        let texts = match self {
            Self::Choices { choices, .. } => choices.as_slice(),
            Self::Contexts { contexts, .. } => contexts,
            Self::Continuation { continuation, .. } => std::slice::from_ref(continuation),
        };
        texts.iter().map(|text| text.chars().count()).collect()
    }
}
