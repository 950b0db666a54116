//! A comparison as a report.

use super::{Comparison, Score};
use crate::report::dots::dots;
use crate::report::paper::{COLUMNS, Family, PaperRow};
use crate::report::show::{count, heading};
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, is_share};
use rwkv_core::chart::{Chart, Interval, Look, Scale, Series};

impl Comparison {
    /// The report for people.
    #[must_use]
    pub fn document(&self) -> Document {
        let labels: Vec<&str> = self.models.iter().map(|model| model.label.as_str()).collect();
        let title = if labels.len() == 1 { format!("{} beside the paper", labels[0]) } else { labels.join(" and ") };
        let mut document = Document::new(if labels.len() > 3 { format!("{} models", labels.len()) } else { title });
        document.warnings.clone_from(&self.warnings);
        document.sections.push(self.scores());
        if labels.len() > 1 {
            document.sections.push(self.differences());
        }
        if !self.paper.is_empty() {
            document.sections.push(self.beside_the_paper());
        }
        let sizes = self.by_size();
        if !sizes.is_empty() {
            document.sections.push(Section::new("Scores by size", sizes));
        }
        for model in &self.models {
            let about = format!("{} parameters, hash {}", count(model.parameters), model.fingerprint);
            document.settings.push((model.label.clone(), about));
        }
        document
    }

    fn scores(&self) -> Section {
        let mut table = Table::new([Column::text("task"), Column::text("metric")]);
        table.columns.extend(self.models.iter().map(|model| Column::number(&model.label)));
        for row in &self.rows {
            let mut cells = vec![Cell::text(&row.task), Cell::text(heading(&row.metric))];
            cells.extend(row.scores.iter().map(|score| Cell::from(score.map(|score| number(&row.metric, score)))));
            table.rows.push(cells);
        }
        // A metric for each task: the paper's, or else the first.
        let mut tasks: Vec<String> = self.rows.iter().map(|row| row.task.clone()).collect();
        tasks.dedup();
        let shown = |task: &String| {
            let papers = COLUMNS.iter().find(|(of_column, metric)| of_column == task && is_share(metric));
            let of_task = || self.rows.iter().filter(|row| row.task == *task && is_share(&row.metric));
            of_task().find(|row| papers.is_some_and(|papers| papers.1 == row.metric)).or_else(|| of_task().next())
        };
        let rows: Vec<_> = tasks.iter().filter_map(shown).collect();
        let name = |row: &&super::Row| {
            if row.metric == "acc" { row.task.clone() } else { format!("{} ({})", row.task, row.metric) }
        };
        let series: Vec<(String, Vec<Option<Number>>)> = (self.models.iter().enumerate())
            .map(|(i, model)| {
                let scores = rows.iter().map(|row| row.scores[i].map(|score| number(&row.metric, score)));
                (model.label.clone(), scores.collect())
            })
            .collect();
        let mut chart = dots(rows.iter().map(name).collect(), "accuracy, %", &series);
        chart.title = "Accuracy by task".to_owned();
        let mut parts = vec![Part::Table(table)];
        if !chart.series.is_empty() {
            parts.push(Part::figure("tasks", chart, "Bars reach one standard error to either side."));
        }
        let best = if self.models.len() > 1 { " The best score of a row is bold." } else { "" };
        parts.push(Part::text(format!("± is one standard error over the documents.{best}")));
        Section::new("Scores", parts)
    }

    fn differences(&self) -> Section {
        let first = &self.models[0].label;
        let mut table = Table::new([Column::text("task"), Column::text("metric")]);
        for model in &self.models[1..] {
            table.columns.push(Column::number(&model.label));
            table.columns.push(Column::number("in errors"));
        }
        for row in &self.rows {
            let mut cells = vec![Cell::text(&row.task), Cell::text(heading(&row.metric))];
            for difference in &row.differences[1..] {
                let shown = difference.map(|difference| {
                    number(&row.metric, Score { value: difference.value, stderr: difference.stderr, best: false })
                });
                let ratio = difference.and_then(|difference| {
                    let stderr = difference.stderr.filter(|stderr| *stderr > 0.0)?;
                    Some(Number::new(difference.value / stderr, 1))
                });
                cells.extend([Cell::from(shown), Cell::from(ratio)]);
            }
            table.rows.push(cells);
        }
        let note = "Errors are combined as √(s₁² + s₂²), as if the models had been asked about different documents. They were \
                    asked about the same, and mostly agree, so true errors of the differences are smaller.";
        Section::new(format!("Differences from {first}"), [Part::Table(table), Part::text(note)])
    }

    fn beside_the_paper(&self) -> Section {
        let columns = || COLUMNS.map(|(task, metric)| Column::number(format!("{task} {}", heading(metric))));
        let mut table = Table::new([Column::text("model"), Column::number("parameters, B")]);
        table.columns.extend(columns());
        let mut rows: Vec<(f64, Vec<Cell>)> = Vec::new();
        for (i, model) in self.models.iter().enumerate() {
            let billions = model.parameters as f64 / 1e9;
            let mut cells = vec![Cell::text(format!("{} (this report)", model.label)), Number::new(billions, 2).into()];
            cells.extend(
                COLUMNS
                    .map(|(task, metric)| Cell::from(self.score(i, task, metric).map(|score| number(metric, score)))),
            );
            rows.push((billions, cells));
        }
        for row in &self.paper {
            let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
            let mut cells = vec![Cell::text(format!("{}{note}", row.model)), Number::new(row.billions, 2).into()];
            cells.extend(row.scores.map(|score| Cell::from(Number::new(score, 2))));
            rows.push((row.billions, cells));
        }
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        table.rows = rows.into_iter().map(|(_, cells)| cells).collect();
        let mut parts = vec![Part::Table(table)];
        if !self.from_paper.is_empty() {
            let caption =
                "Difference from the paper's RWKV-4 of the same size; errors are this report's, the paper has none";
            let mut table = Table::new([Column::text("model"), Column::text("the paper's")]);
            table.caption = caption.to_owned();
            table.columns.extend(columns());
            for from in &self.from_paper {
                let mut cells = vec![Cell::text(&self.models[from.model].label), Cell::text(&from.paper)];
                cells.extend(COLUMNS.iter().zip(&from.differences).map(|((_, metric), difference)| {
                    let score = difference.map(|d| Score { value: d.value, stderr: d.stderr, best: false });
                    Cell::from(score.map(|score| number(metric, score)))
                }));
                table.rows.push(cells);
            }
            parts.push(Part::Table(table));
        }
        let mut sources: Vec<&str> = self.paper.iter().map(|row| row.source).collect();
        sources.dedup();
        sources.sort_unstable();
        sources.dedup();
        parts.push(Part::text(format!("Sources: {}.", sources.join("; "))));
        Section::new("Beside the paper", parts)
    }

    /// A chart for each column of the paper's table that a model has a score for.
    fn by_size(&self) -> Vec<Part> {
        let sizes = self.models.iter().map(|model| model.parameters).collect::<std::collections::BTreeSet<_>>();
        // Without the paper, models of one size would all stand above one another.
        if self.paper.is_empty() && sizes.len() < 2 {
            return Vec::new();
        }
        let shown = |(task, metric): &(&str, &str)| {
            let chart = self.chart_by_size(task, metric)?;
            Some(Part::figure(format!("{task}-{metric}"), chart, ""))
        };
        COLUMNS.iter().filter_map(shown).collect()
    }

    fn chart_by_size(&self, task: &str, metric: &str) -> Option<Chart> {
        let mut chart = Chart {
            title: format!("{task}, {metric}"),
            x_name: "parameters".to_owned(),
            y_name: heading(metric),
            x_scale: Scale::Log,
            y_scale: Scale::log(!is_share(metric)), // perplexities
            ..Chart::default()
        };
        for (number, family) in Family::ALL.into_iter().enumerate() {
            // What was never a model is no point of a curve.
            let of_family = |row: &&&PaperRow| row.family == family && row.note != crate::report::paper::INTERPOLATED;
            let percent = if is_share(metric) { 100.0 } else { 1.0 };
            let point = |row: &&PaperRow| Some((row.billions * 1e9, percent * row.score(task, metric)?));
            let points: Vec<_> = self.paper.iter().filter(of_family).filter_map(point).collect();
            if !points.is_empty() {
                chart.add(family.name(), Series::new(points, Look { bold: false, ..Look::both(number) }));
            }
        }
        let papers = Family::ALL.len();
        let mut any = false;
        for (i, model) in self.models.iter().enumerate() {
            let score = self.score(i, task, metric).map(|score| number(metric, score));
            if let Some(score) = score.filter(|score| score.value.is_finite()) {
                let point = (model.parameters as f64, score.value);
                let bars = score.error.iter().map(|error| Interval::around(point, *error)).collect();
                chart.add(&model.label, Series { bars, ..Series::new(vec![point], Look::points(papers + i)) });
                any = true;
            }
        }
        any.then_some(chart)
    }
}

fn number(metric: &str, score: Score) -> Number {
    let percent = if is_share(metric) { 100.0 } else { 1.0 };
    let number = Number { best: score.best, ..Number::new(percent * score.value, 2) };
    score.stderr.map_or(number, |error| number.with_error(percent * error))
}
