//! One row a request.

use crate::Failure;
use rwkv_core::files::write_atomic;
use rwkv_eval::runner::{Answers, Prepared};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Sample<'a> {
    task: &'a str,
    /// The document's number in its split, from 0.
    doc_id: usize,
    /// The request's number in its document, from 0.
    request: usize,
    loglikelihood: f64,
    is_greedy: bool,
    context_tokens: usize,
    continuation_tokens: usize,
    /// XXH3-64 of the texts.
    context_hash: String,
    continuation_hash: String,
    /// Whether this is the right choice, where there is a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    gold: Option<bool>,
}

/// Writes them all.
pub(super) fn write(path: &Path, tasks: &[Prepared], answers: &Answers) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for (task, likelihoods) in tasks.iter().zip(&answers.likelihoods) {
        for (doc_id, (document, likelihoods)) in task.documents.iter().zip(likelihoods).enumerate() {
            for (request, (asked, answer)) in document.requests.iter().zip(likelihoods).enumerate() {
                let sample = Sample {
                    task: task.task.name,
                    doc_id,
                    request,
                    loglikelihood: answer.log_likelihood,
                    is_greedy: answer.is_greedy,
                    context_tokens: asked.tokens.context.len(),
                    continuation_tokens: asked.tokens.continuation.len(),
                    context_hash: format!("{:016x}", asked.text_hashes.0),
                    continuation_hash: format!("{:016x}", asked.text_hashes.1),
                    gold: document.gold.map(|gold| gold == request),
                };
                serde_json::to_writer(&mut lines, &sample)?;
                lines.push(b'\n');
            }
        }
    }
    Ok(write_atomic(path, &lines)?)
}
