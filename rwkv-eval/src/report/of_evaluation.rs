//! An evaluation's file, and its report for people.

use super::dots::dots;
use super::show::{self, count, date, heading, is_share, metric_names};
use super::{Cell, Column, Document, Evaluation, Number, Part, Section, Table};
use crate::error::Result;
use crate::task::Task;
use rwkv_core::error::Error;
use rwkv_core::provenance::Provenance;
use std::collections::BTreeMap;
use std::path::Path;

impl Evaluation {
    /// Reads what `evaluate --out` wrote.
    ///
    /// # Errors
    /// When it cannot be read, or is something else; line and column are named.
    pub fn read(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).map_err(Error::io("read", path))?;
        let report: Self = serde_json::from_slice(&json)
            .map_err(|error| Error::format(path, format!("is no report of an evaluation: {error}")))?;
        if report.results.is_empty() {
            return Err(Error::format(path, "is a report without results").into());
        }
        Ok(report)
    }

    /// The report for people.
    ///
    /// # Example
    /// A folder with `evaluation.json`, `evaluation.md`, `evaluation.html` and the chart:
    /// ```no_run
    /// # fn example(evaluation: rwkv_eval::report::Evaluation) -> rwkv_eval::error::Result<()> {
    /// evaluation.document().write("results".as_ref(), "evaluation", &evaluation)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn document(&self) -> Document {
        let mut document = Document::new(format!("Evaluation of {}", self.model.name));
        let asked: usize = self.n_samples.values().map(|samples| samples.effective).sum();
        let tasks = if self.results.len() == 1 { "task" } else { "tasks" };
        document.summary.push(format!(
            "{} parameters in {}, {} {tasks}, {} documents.",
            count(self.model.parameters),
            self.model.dtype,
            self.results.len(),
            count(asked)
        ));
        let cut: Vec<String> = self
            .n_samples
            .iter()
            .filter(|(_, samples)| samples.effective < samples.original)
            .map(|(task, samples)| format!("{task} ({} of {})", count(samples.effective), count(samples.original)))
            .collect();
        if !cut.is_empty() {
            let problem = "Not all documents were asked, so these are no scores of the whole tasks";
            document.warnings.push(format!("{problem}: {}.", cut.join(", ")));
        }
        let stand_ins: Vec<String> = (self.results.keys())
            .filter_map(|task| {
                let (split, own) = self.stand_in(task)?;
                Some(format!("{task} ({split} instead of {own})"))
            })
            .collect();
        if !stand_ins.is_empty() {
            let problem =
                "Another split was asked than the task's own, so these are no scores to set beside published ones";
            document.warnings.push(format!("{problem}: {}.", stand_ins.join(", ")));
        }
        let truncated: Vec<String> = (self.n_samples.iter())
            .filter(|(_, samples)| samples.truncated > 0)
            .map(|(task, samples)| format!("{task} ({})", count(samples.truncated)))
            .collect();
        if !truncated.is_empty() {
            let most = count(self.settings.max_length);
            let problem = format!("Requests of more than {most} tokens lost their beginning");
            document.warnings.push(format!("{problem}: {}.", truncated.join(", ")));
        }
        let metrics = metric_names(self.results.values());
        let mut parts = vec![Part::Table(self.table(&metrics))];
        parts.extend(self.figure(&metrics));
        parts.push(Part::text("± is one standard error over the documents."));
        document.sections.push(Section::new("Results", parts));
        document.sections.push(Section::new("Speed", [Part::text(self.speed_in_words())]));
        document.settings = self.settings_in_words();
        document
    }

    /// The split of a task that was asked and the task's own, where they are not the same.
    pub(crate) fn stand_in(&self, task: &str) -> Option<(&str, &'static str)> {
        let split = self.settings.splits.get(task)?;
        let own = Task::named(task).ok()?.split;
        (split != own).then_some((split, own))
    }

    fn table(&self, metrics: &[&str]) -> Table {
        let mut table = Table::new([Column::text("task"), Column::text("split")]);
        table.columns.extend(metrics.iter().map(|metric| Column::number(heading(metric))));
        table.columns.extend(["documents", "shots", "version"].map(Column::number));
        let number = |number: usize| Cell::text(count(number));
        for (task, scores) in &self.results {
            let split = self.settings.splits.get(task).map_or(Cell::Empty, Cell::text);
            let mut row = vec![Cell::text(task), split];
            row.extend(metrics.iter().map(|metric| Cell::from(show::metric(scores, metric))));
            row.push(self.n_samples.get(task).map_or(Cell::Empty, |samples| number(samples.effective)));
            row.push(self.n_shot.get(task).map_or(Cell::Empty, |shots| number(*shots)));
            row.push(self.versions.get(task).map_or(Cell::Empty, |version| Cell::text(version.to_string())));
            table.rows.push(row);
        }
        table
    }

    /// The accuracies, where there are any.
    fn figure(&self, metrics: &[&str]) -> Option<Part> {
        let shares = metrics.iter().filter(|metric| is_share(metric));
        let of_metric = |metric: &&str| {
            let scores: Vec<Option<Number>> = self.results.values().map(|task| show::metric(task, metric)).collect();
            ((*metric).to_owned(), scores)
        };
        let series: Vec<_> = shares.map(of_metric).collect();
        let mut chart = dots(self.results.keys().cloned().collect(), "%", &series);
        chart.title = format!("Accuracy of {}", self.model.name);
        let drawable = !chart.series.is_empty();
        drawable.then(|| Part::figure("accuracy", chart, "Bars reach one standard error to either side."))
    }

    fn speed_in_words(&self) -> String {
        let speed = &self.speed;
        let per_second = |number: usize| count((number as f64 / speed.seconds.max(1e-9)).round() as usize);
        format!(
            "{} documents with {} requests in {:.1} s: {} requests and {} tokens a second. The model read {} tokens; one \
             request at a time it would have read {}.",
            count(speed.samples),
            count(speed.requests),
            speed.seconds,
            per_second(speed.requests),
            per_second(speed.tokens_read),
            count(speed.tokens_read),
            count(speed.tokens_asked)
        )
    }

    fn settings_in_words(&self) -> Vec<(String, String)> {
        let (model, settings) = (&self.model, &self.settings);
        let hash = &model.tokenizer_hash;
        let mut rows = vec![
            ("model", model.name.clone()),
            ("weights' hash", model.fingerprint.clone()),
            ("parameters", count(model.parameters)),
            ("sizes", in_words(&model.config)),
            ("weights in", model.dtype.clone()),
            ("tokenizer", model.tokenizer.clone()),
            ("tokenizer's hash", if hash.is_empty() { "unknown".to_owned() } else { hash.clone() }),
            ("context start", settings.context_start.clone()),
            ("limit", settings.limit.map_or("none".to_owned(), count)),
            ("requests at once", count(settings.batch_size)),
            ("tokens of a request at most", count(settings.max_length)),
            ("common beginnings read once", yes_or_no(settings.prefix_sharing)),
            ("seed of the worked examples", settings.seed.to_string()),
            (
                "resamples behind a perplexity's error",
                if settings.resamples == 0 { "none".to_owned() } else { count(settings.resamples) },
            ),
        ];
        let data = |(task, files): (&String, &Vec<(String, String)>)| {
            let files = files.iter().map(|(file, hash)| format!("{file} ({hash})")).collect::<Vec<_>>();
            (format!("data of {task}"), files.join(", "))
        };
        let provenance = provenance_in_words(&self.provenance);
        let mut named: Vec<_> = rows.drain(..).map(|(key, value)| (key.to_owned(), value)).collect();
        named.extend(settings.data.iter().map(data));
        named.extend(provenance);
        named
    }
}

/// Version, commit, backend, command and time, as rows of [`Document::settings`].
#[must_use]
pub fn provenance_in_words(provenance: &Provenance) -> Vec<(String, String)> {
    let command: Vec<String> = provenance.command.iter().map(|argument| quoted(argument)).collect();
    let mut rows = vec![
        ("backend".to_owned(), provenance.backend.clone()),
        ("version".to_owned(), provenance.version.clone()),
        ("commit".to_owned(), provenance.commit.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("command".to_owned(), command.join(" ")),
    ];
    if provenance.unix_time > 0 {
        rows.push(("time".to_owned(), date(provenance.unix_time)));
    }
    rows
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// `n_layer 12, n_embd 768` for an object of sizes.
fn in_words(config: &serde_json::Value) -> String {
    match config.as_object() {
        Some(sizes) => {
            let sorted: BTreeMap<&String, &serde_json::Value> = sizes.iter().collect();
            sorted.into_iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
        }
        None => config.to_string(),
    }
}
