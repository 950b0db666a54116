//! Reports to test with.

use rwkv_core::provenance::Provenance;
use rwkv_eval::report::{Evaluation, ModelInfo, Samples, Settings, Speed};
use rwkv_eval::task::Task;
use std::collections::BTreeMap;

const TASKS: [(&str, f64, usize); 6] = [
    ("lambada_openai", 0.33, 5153),
    ("piqa", 0.65, 1838),
    ("winogrande", 0.51, 1267),
    ("arc_easy", 0.47, 2376),
    ("arc_challenge", 0.24, 1172),
    ("sciq", 0.77, 1000),
];

fn own_split(task: &str) -> String {
    Task::named(task).expect("a task").split.to_owned()
}

/// An evaluation of the six tasks; accuracies are moved by `shift`.
pub fn evaluation(name: &str, parameters: usize, shift: f64) -> Evaluation {
    let by_task = |task: &str| task.to_owned();
    let metrics = |task: &str, accuracy: f64, documents: usize| {
        let stderr = (accuracy * (1.0 - accuracy) / (documents - 1) as f64).sqrt();
        let mut metrics = BTreeMap::from([("acc".to_owned(), accuracy), ("acc_stderr".to_owned(), stderr)]);
        if task == "lambada_openai" {
            metrics.extend([("perplexity".to_owned(), 29.0 - 100.0 * shift), ("perplexity_stderr".to_owned(), 0.9)]);
        }
        if task.starts_with("arc") || task == "piqa" {
            metrics.extend([("acc_norm".to_owned(), accuracy + 0.01), ("acc_norm_stderr".to_owned(), stderr)]);
        }
        metrics
    };
    let higher = |task: &str| {
        let mut higher = BTreeMap::from([("acc".to_owned(), true), ("acc_norm".to_owned(), true)]);
        if task == "lambada_openai" {
            higher.insert("perplexity".to_owned(), false);
        }
        higher
    };
    Evaluation {
        results: TASKS.iter().map(|(task, acc, n)| (by_task(task), metrics(task, acc + shift, *n))).collect(),
        versions: TASKS.iter().map(|(task, ..)| (by_task(task), 1)).collect(),
        n_shot: TASKS.iter().map(|(task, ..)| (by_task(task), 0)).collect(),
        n_samples: TASKS
            .iter()
            .map(|(task, _, n)| (by_task(task), Samples { original: *n, effective: *n, truncated: 0 }))
            .collect(),
        higher_is_better: TASKS.iter().map(|(task, ..)| (by_task(task), higher(task))).collect(),
        model: ModelInfo {
            name: name.to_owned(),
            fingerprint: format!("{parameters:016x}"),
            parameters,
            config: serde_json::json!({"n_layer": 12, "n_embd": 768, "vocab_size": 50277}),
            dtype: "f32".to_owned(),
            tokenizer: "20B_tokenizer.json".to_owned(),
            tokenizer_hash: "99887766554433221100".to_owned(),
        },
        settings: Settings {
            context_start: "reference".to_owned(),
            limit: None,
            batch_size: 16,
            max_length: 1024,
            prefix_sharing: true,
            seed: 1234,
            resamples: 1000,
            splits: TASKS.iter().map(|(task, ..)| (by_task(task), own_split(task))).collect(),
            data: TASKS
                .iter()
                .map(|(task, ..)| {
                    (by_task(task), vec![(format!("data/{task}/test.jsonl"), "00112233445566778899".into())])
                })
                .collect(),
        },
        speed: Speed {
            seconds: 60.5,
            samples: 12_806,
            requests: 28_000,
            resumed: 0,
            tokens_read: 1_400_000,
            tokens_asked: 2_000_000,
        },
        provenance: Provenance {
            version: "0.1.0".to_owned(),
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            backend: "flex".to_owned(),
            command: ["evaluate", "--model", "my model.pth", "--tasks", "piqa,sciq"].map(str::to_owned).to_vec(),
            unix_time: 1_709_208_000,
        },
    }
}
