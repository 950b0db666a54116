//! Whether models were asked in the same way.

use crate::report::Evaluation;
use crate::report::paper::COLUMNS;
use std::collections::BTreeSet;

/// A sentence for every setting that differs, and for what makes scores unlike the paper's.
pub(super) fn warnings(evaluations: &[(String, Evaluation)], with_paper: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut compare = |what: &str, of: &dyn Fn(&Evaluation) -> Option<String>| {
        let values: Vec<(&str, String)> =
            evaluations.iter().filter_map(|(label, evaluation)| Some((label.as_str(), of(evaluation)?))).collect();
        let different: BTreeSet<&String> = values.iter().map(|(_, value)| value).collect();
        if different.len() > 1 {
            let all: Vec<String> = values.iter().map(|(label, value)| format!("{label} {value}")).collect();
            warnings.push(format!("{what} differs: {}.", all.join(", ")));
        }
    };
    compare("The context's start", &|e| Some(e.settings.context_start.clone()));
    compare("The limit of documents", &|e| Some(e.settings.limit.map_or("none".to_owned(), |limit| limit.to_string())));
    compare("The length of requests", &|e| Some(e.settings.max_length.to_string()));
    // Weights of one model in several precisions have one hash, so this is what is compared then.
    compare("The weights' precision", &|e| Some(e.model.dtype.clone()));
    // Files of versions that did not write a hash tell nothing.
    compare("The tokenizer", &|e| {
        let hash = &e.model.tokenizer_hash;
        (!hash.is_empty()).then(|| short(hash).to_owned())
    });
    compare("The seed of the examples before a question", &|e| {
        e.n_shot.values().any(|shots| *shots > 0).then(|| e.settings.seed.to_string())
    });
    let tasks: BTreeSet<&String> = evaluations.iter().flat_map(|(_, evaluation)| evaluation.results.keys()).collect();
    for task in &tasks {
        compare(&format!("The number of examples before a question of {task}"), &|e| {
            Some(e.n_shot.get(*task)?.to_string())
        });
        compare(&format!("The version of {task}"), &|e| Some(e.versions.get(*task)?.to_string()));
        compare(&format!("The split of {task}"), &|e| e.settings.splits.get(*task).cloned());
        compare(&format!("The number of documents of {task}"), &|e| {
            Some(e.n_samples.get(*task)?.effective.to_string())
        });
        compare(&format!("The data of {task}"), &|e| {
            let files = e.settings.data.get(*task)?;
            Some(files.iter().map(|(_, hash)| short(hash)).collect::<Vec<_>>().join("+"))
        });
    }
    if with_paper {
        let of_paper = |task: &str| COLUMNS.iter().any(|(of_column, _)| *of_column == task);
        for (label, evaluation) in evaluations {
            if evaluation.settings.context_start != "reference" {
                warnings.push(format!(
                    "{label} was asked with context start {}; the paper's RWKV scores have a newline before every text, \
                     which is called reference.",
                    evaluation.settings.context_start
                ));
            }
            for (task, samples) in &evaluation.n_samples {
                if samples.effective < samples.original && of_paper(task) {
                    warnings.push(format!(
                        "{label} was asked {} of {} documents of {task}, the paper's models all.",
                        samples.effective, samples.original
                    ));
                }
            }
            for task in evaluation.results.keys().filter(|task| of_paper(task)) {
                if let Some((split, own)) = evaluation.stand_in(task) {
                    warnings.push(format!("{label} was asked split {split} of {task}, the paper's models {own}."));
                }
            }
            for (task, shots) in evaluation.n_shot.iter().filter(|(_, shots)| **shots > 0) {
                warnings
                    .push(format!("{label} saw {shots} examples before each question of {task}, the paper's none."));
            }
        }
    }
    warnings
}

/// Enough of a hash to tell it from another.
fn short(hash: &str) -> &str {
    hash.char_indices().nth(12).map_or(hash, |(end, _)| &hash[..end])
}
