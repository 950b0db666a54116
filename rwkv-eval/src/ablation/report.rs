//! The report of a study.

use super::{Outcome, PairedT, Standing, Status, Study, charts};
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, count, provenance_in_words};
use serde::Serialize;

/// What the ranking's columns hold.
const HOW: &str = "Means and standard errors are over seeds, from the best to the worst. Differences to the baseline are taken \
                   seed by seed, and tested against zero by Student's t test, two-sided; Holm's correction keeps the chance of \
                   even one wrong verdict in the table at five percent. \"Not told apart\" is no proof of being equal.";

/// The numbers of a report: the study, and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Numbers<'a> {
    verdict: String,
    standings: Vec<Judged>,
    #[serde(flatten)]
    study: &'a Study,
}

/// A standing with what it means.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Judged {
    #[serde(flatten)]
    standing: Standing,
    outcome: Option<Outcome>,
}

impl Study {
    /// The study with its verdict and standings, as JSON has it.
    #[must_use]
    pub fn numbers(&self) -> impl Serialize + '_ {
        let judged = |standing: Standing| Judged { outcome: standing.outcome(self), standing };
        Numbers { verdict: self.verdict(), standings: self.standings().into_iter().map(judged).collect(), study: self }
    }

    /// The report; its JSON is [`Self::numbers`].
    #[must_use]
    pub fn document(&self) -> Document {
        let standings = self.standings();
        let title = if self.question.is_empty() { "Ablation" } else { &self.question };
        let mut document = Document::new(title);
        document.summary.push(self.verdict());
        document.warnings = self.warnings(&standings);
        let mut results = vec![Part::Table(self.ranking(&standings)), Part::text(HOW)];
        results.extend(charts::ranked(self, &standings));
        document.sections.push(Section::new("Ranking", results));
        if let Some(figure) = charts::against_x(self, &standings) {
            document.sections.push(Section::new("Against x", [figure]));
        }
        if let Some(figure) = charts::curves(self, &standings) {
            document.sections.push(Section::new("On the way", [figure]));
        }
        document.sections.push(Section::new("Variants", [Part::Table(self.changes())]));
        if let Some(failed) = self.failures() {
            document.sections.push(Section::new("Runs that failed", [Part::Table(failed)]));
        }
        document.settings.push(("baseline".to_owned(), self.baseline().to_owned()));
        document.settings.push(("metric".to_owned(), self.metric.name().to_owned()));
        document.settings.extend(self.settings.iter().cloned());
        document.settings.extend(provenance_in_words(&self.provenance));
        document
    }

    fn warnings(&self, standings: &[Standing]) -> Vec<String> {
        let mut warnings = self.notes.clone();
        let failed = self.rows.iter().filter(|row| row.status == Status::Failed).count();
        if failed > 0 {
            warnings.push(format!("{failed} of {} runs failed; means are over the others.", self.rows.len()));
        }
        let pending = self.rows.iter().filter(|row| row.status == Status::Pending).count();
        if pending > 0 {
            warnings.push(format!("{pending} of {} runs are not done yet.", self.rows.len()));
        }
        if standings.iter().any(|standing| standing.seeds == 1) {
            warnings.push("With one seed there is no error and no test: what a seed changes is not known.".to_owned());
        } else if standings.iter().any(|standing| standing.test.is_some_and(|test| test.df < 4)) {
            warnings.push(
                "With fewer than five seeds a test finds only differences that are large beside their scatter: \
                 what is not told apart is not shown to be equal."
                    .to_owned(),
            );
        }
        warnings
    }

    fn ranking(&self, standings: &[Standing]) -> Table {
        let states = standings.iter().any(|standing| standing.state_bytes.is_some());
        let tests = standings.iter().any(|standing| standing.test.is_some());
        let mut columns = vec![Column::text("variant"), Column::number("parameters")];
        columns.extend(states.then(|| Column::number("state bytes")));
        columns.extend([Column::number(self.metric.name()), Column::number("− baseline")]);
        if tests {
            columns.extend([Column::number("t (df)"), Column::number("p"), Column::number("Holm p")]);
            columns.push(Column::text("verdict"));
        }
        columns.extend([Column::number("runs"), Column::number("minutes")]);
        let mut table = Table::new(columns);
        table.caption = format!("{} at the end: {}.", self.metric, self.metric.described());
        let best = standings.first().and_then(|standing| standing.mean);
        for (place, standing) in standings.iter().enumerate() {
            let number =
                |mean: Option<f64>, error, decimals| mean.map(|mean| Number { error, ..Number::new(mean, decimals) });
            let mean = number(standing.mean, standing.stderr, 4);
            let mean = mean.map(|mean| Number { best: Some(mean.value) == best, ..mean });
            let is_baseline = standing.variant == self.baseline();
            let name = if is_baseline { format!("{} (baseline)", standing.variant) } else { standing.variant.clone() };
            // The ranked plot has numbers where names would not fit.
            let name = if charts::has_numbers(standings) { format!("{}. {name}", place + 1) } else { name };
            let mut row = vec![Cell::text(name), counted(standing.params)];
            row.extend(states.then(|| counted(standing.state_bytes)));
            row.push(mean.into());
            row.push(number(standing.difference, standing.difference_stderr, 5).into());
            if tests {
                row.push(standing.test.map_or(Cell::Empty, |test| Cell::text(t_of(&test))));
                row.push(standing.test.map_or(Cell::Empty, |test| Cell::text(probability(test.p))));
                row.push(standing.corrected_p.map_or(Cell::Empty, |p| Cell::text(probability(p))));
                row.push(standing.outcome(self).map_or(Cell::Empty, |outcome| Cell::text(in_words(outcome))));
            }
            row.push(Cell::text(match standing.done == standing.seeds {
                true => standing.done.to_string(),
                false => format!("{} of {}", standing.done, standing.seeds),
            }));
            row.push(standing.seconds.map(|seconds| Number::new(seconds / 60.0, 1)).into());
            table.rows.push(row);
        }
        table
    }

    fn changes(&self) -> Table {
        let has_notes = self.variants.iter().any(|variant| variant.note.is_some());
        let mut columns = vec![Column::text("variant"), Column::text("differs from the baseline in")];
        columns.extend(has_notes.then(|| Column::text("note")));
        let mut table = Table::new(columns);
        for variant in &self.variants {
            let changes: Vec<String> = variant.changes.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            let changes = match changes.as_slice() {
                [] if variant.name == self.baseline() => "(the baseline)".to_owned(),
                [] => "nothing".to_owned(),
                changes => changes.join(", "),
            };
            let note = variant.note.as_deref().unwrap_or_default();
            table.rows.push(vec![Cell::text(&variant.name), Cell::text(changes), Cell::text(note)]);
        }
        table
    }

    fn failures(&self) -> Option<Table> {
        let mut table = Table::new([Column::text("variant"), Column::number("seed"), Column::text("why")]);
        for row in self.rows.iter().filter(|row| row.status == Status::Failed) {
            let why = row.error.as_deref().unwrap_or("unknown");
            table.rows.push(vec![Cell::text(&row.variant), Cell::text(row.seed.to_string()), Cell::text(why)]);
        }
        (!table.rows.is_empty()).then_some(table)
    }
}

fn counted(number: Option<usize>) -> Cell {
    number.map_or(Cell::Empty, |number| Cell::text(count(number)))
}

fn t_of(test: &PairedT) -> String {
    let t = if test.t.is_infinite() { "∞".to_owned() } else { format!("{:.2}", test.t).replace('-', "−") };
    format!("{t} ({})", test.df)
}

/// A probability with as many digits as mean something.
fn probability(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn in_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::NotToldApart => "not told apart",
        Outcome::NotTested => "not tested",
        Outcome::Failed => "failed",
    }
}
