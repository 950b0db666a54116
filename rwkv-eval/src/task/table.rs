//! The tasks, as data.

use super::{Task, prompts};
use crate::metrics::Metric::{self, Acc, AccNorm, Perplexity};

const CHOICE: &[Metric] = &[Acc, AccNorm];

/// Every task that there is; the first six are those of the RWKV paper.
pub static TASKS: &[Task] = &[
    Task {
        name: "lambada_openai",
        version: 1,
        data: ("EleutherAI/lambada_openai", "default"),
        split: "test",
        few_shot_split: "test",
        metrics: &[Perplexity, Acc],
        document: prompts::lambada,
    },
    Task {
        name: "piqa",
        version: 1,
        data: ("baber/piqa", "default"),
        split: "validation",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::piqa,
    },
    Task {
        name: "winogrande",
        version: 1,
        data: ("allenai/winogrande", "winogrande_xl"),
        split: "validation",
        few_shot_split: "train",
        metrics: &[Acc],
        document: prompts::winogrande,
    },
    Task {
        name: "arc_easy",
        version: 1,
        data: ("allenai/ai2_arc", "ARC-Easy"),
        split: "test",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::arc,
    },
    Task {
        name: "arc_challenge",
        version: 1,
        data: ("allenai/ai2_arc", "ARC-Challenge"),
        split: "test",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::arc,
    },
    Task {
        name: "sciq",
        version: 1,
        data: ("allenai/sciq", "default"),
        split: "test",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::sciq,
    },
    Task {
        name: "hellaswag",
        version: 1,
        data: ("Rowan/hellaswag", "default"),
        split: "validation",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::hellaswag,
    },
    Task {
        name: "openbookqa",
        version: 1,
        data: ("allenai/openbookqa", "main"),
        split: "test",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::openbookqa,
    },
    Task {
        name: "copa",
        version: 1,
        data: ("aps/super_glue", "copa"),
        split: "validation",
        few_shot_split: "train",
        metrics: &[Acc],
        document: prompts::copa,
    },
    Task {
        name: "headqa_en",
        version: 1,
        data: ("EleutherAI/headqa", "en"),
        split: "test",
        few_shot_split: "train",
        metrics: CHOICE,
        document: prompts::headqa,
    },
    Task {
        name: "storycloze_2016",
        version: 1,
        data: ("LSDSem/story_cloze", "2016"),
        split: "test",
        few_shot_split: "validation",
        metrics: &[Acc],
        document: prompts::storycloze,
    },
];
