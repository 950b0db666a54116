//! The tasks, as data.

use super::{Task, prompts};
use crate::metrics::Metric::{self, Acc, AccNorm, Perplexity};

const CHOICE: &[Metric] = &[Acc, AccNorm];

/// Every task that there is; the first six are those of the RWKV paper.
pub static TASKS: &[Task] = &[
    Task {
        name: "lambada_openai",
        version: 1,
        split: "test",
        few_shot_split: "test",
        has_test_split: true,
        metrics: &[Perplexity, Acc],
        document: prompts::lambada,
    },
    Task {
        name: "piqa",
        version: 1,
        split: "validation",
        few_shot_split: "train",
        has_test_split: false,
        metrics: CHOICE,
        document: prompts::piqa,
    },
    Task {
        name: "winogrande",
        version: 1,
        split: "validation",
        few_shot_split: "train",
        has_test_split: false,
        metrics: &[Acc],
        document: prompts::winogrande,
    },
    Task {
        name: "arc_easy",
        version: 1,
        split: "test",
        few_shot_split: "train",
        has_test_split: true,
        metrics: CHOICE,
        document: prompts::arc,
    },
    Task {
        name: "arc_challenge",
        version: 1,
        split: "test",
        few_shot_split: "train",
        has_test_split: true,
        metrics: CHOICE,
        document: prompts::arc,
    },
    Task {
        name: "sciq",
        version: 1,
        split: "test",
        few_shot_split: "train",
        has_test_split: true,
        metrics: CHOICE,
        document: prompts::sciq,
    },
    Task {
        name: "hellaswag",
        version: 1,
        split: "validation",
        few_shot_split: "train",
        has_test_split: false,
        metrics: CHOICE,
        document: prompts::hellaswag,
    },
    Task {
        name: "openbookqa",
        version: 1,
        split: "test",
        few_shot_split: "train",
        has_test_split: true,
        metrics: CHOICE,
        document: prompts::openbookqa,
    },
    Task {
        name: "copa",
        version: 1,
        split: "validation",
        few_shot_split: "train",
        has_test_split: false,
        metrics: &[Acc],
        document: prompts::copa,
    },
    Task {
        name: "headqa_en",
        version: 1,
        split: "test",
        few_shot_split: "train",
        has_test_split: true,
        metrics: CHOICE,
        document: prompts::headqa,
    },
    Task {
        name: "storycloze_2016",
        version: 1,
        split: "test",
        few_shot_split: "validation",
        has_test_split: true,
        metrics: &[Acc],
        document: prompts::storycloze,
    },
];
