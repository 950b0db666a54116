//! Where the data of tasks is published.

/// A data set on the Hugging Face hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The task.
    pub task: &'static str,
    /// `OWNER/NAME`.
    pub repository: &'static str,
    /// Which of its configurations.
    pub config: &'static str,
}

/// As in the configurations of lm-evaluation-harness 0.4.
const SOURCES: [Source; 10] = [
    at("lambada_openai", "EleutherAI/lambada_openai", "default"),
    at("piqa", "baber/piqa", "default"),
    at("winogrande", "allenai/winogrande", "winogrande_xl"),
    at("arc_easy", "allenai/ai2_arc", "ARC-Easy"),
    at("arc_challenge", "allenai/ai2_arc", "ARC-Challenge"),
    at("sciq", "allenai/sciq", "default"),
    at("hellaswag", "Rowan/hellaswag", "default"),
    at("openbookqa", "allenai/openbookqa", "main"),
    at("copa", "aps/super_glue", "copa"),
    at("headqa_en", "EleutherAI/headqa", "en"),
];

const fn at(task: &'static str, repository: &'static str, config: &'static str) -> Source {
    Source { task, repository, config }
}

/// Where a task's data is published, for the tasks whose data is.
///
/// # Example
/// ```
/// assert_eq!(rwkv_eval::data::source("winogrande").unwrap().config, "winogrande_xl");
/// assert!(rwkv_eval::data::source("my_own_task").is_none());
/// ```
#[must_use]
pub fn source(task: &str) -> Option<Source> {
    SOURCES.into_iter().find(|source| source.task == task)
}
