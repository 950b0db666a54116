//! Perplexities as a report.

use super::{Context, TextScore, Total};
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, count, provenance_in_words};
use rwkv_core::provenance::Provenance;
use serde::Serialize;

/// Scores of texts, and all that they depend on.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// All texts as one.
    pub total: Total,
    /// The texts.
    pub documents: Vec<TextScore>,
    /// How they were scored.
    pub settings: ReportSettings,
    /// What computed it, where and when.
    pub provenance: Provenance,
}

/// How texts were scored.
#[derive(Debug, Clone, Serialize)]
pub struct ReportSettings {
    /// The model as it was named.
    pub model: String,
    /// The hash of its weights.
    pub fingerprint: String,
    /// Its tokenizer's file or kind.
    pub tokenizer: String,
    /// Precision of its weights.
    pub dtype: String,
    /// What a token is predicted from.
    pub context: Context,
    /// The token before every text, where there is one.
    pub start: Option<u32>,
}

impl Report {
    /// The report for people.
    #[must_use]
    pub fn document(&self) -> Document {
        let mut document = Document::new(format!("Perplexity of {}", self.settings.model));
        let score = &self.total.score;
        document.summary.push(format!(
            "{:.4} bits per byte and {:.4} per token over {} tokens of {} {}.",
            score.bits_per_byte(),
            score.bits_per_token(),
            count(score.predicted_tokens),
            count(self.total.documents),
            if self.total.documents == 1 { "text" } else { "texts" }
        ));
        let numbers = ["loss, nats per token", "perplexity", "bits per token", "bits per byte", "word perplexity"];
        let mut table = Table::new([Column::text("text")]);
        table.columns.extend(numbers.into_iter().chain(["tokens", "bytes", "words"]).map(Column::number));
        table.rows.extend(self.documents.iter().map(|text| row(text, None, None)));
        if self.documents.len() > 1 {
            table.rows.push(row(score, self.total.loss_stderr, self.total.bits_per_byte_stderr));
        }
        let note = "Words are the pieces between runs of whitespace. ± is one standard error over texts.";
        document.sections.push(Section::new("Results", [Part::Table(table), Part::text(note)]));
        let settings = &self.settings;
        let context = match settings.context {
            Context::Carried => "all tokens before".to_owned(),
            Context::Windows { length, stride } => format!("windows of {length} tokens, one every {stride}"),
        };
        document.settings = [
            ("model", settings.model.clone()),
            ("weights' hash", settings.fingerprint.clone()),
            ("weights in", settings.dtype.clone()),
            ("tokenizer", settings.tokenizer.clone()),
            ("context", context),
            ("token before a text", settings.start.map_or("none".to_owned(), |token| token.to_string())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        document.settings.extend(provenance_in_words(&self.provenance));
        document
    }
}

fn row(text: &TextScore, loss_stderr: Option<f64>, byte_stderr: Option<f64>) -> Vec<Cell> {
    let number = |value: f64, stderr: Option<f64>| Cell::from(Number { error: stderr, ..Number::new(value, 4) });
    let counted = |number: usize| Cell::text(count(number));
    vec![
        Cell::text(&text.name),
        number(text.loss(), loss_stderr),
        // By the derivative of exp.
        number(text.perplexity(), loss_stderr.map(|stderr| stderr * text.perplexity())),
        number(text.bits_per_token(), loss_stderr.map(|stderr| stderr / std::f64::consts::LN_2)),
        number(text.bits_per_byte(), byte_stderr),
        number(text.word_perplexity(), None),
        counted(text.predicted_tokens),
        counted(text.bytes),
        counted(text.words),
    ]
}
