//! The report of the curves.

use super::{Curves, OfModel};
use crate::fit::PowerLaw;
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, count, provenance_in_words};
use rwkv_core::chart::{Chart, Look, Scale, Series};

/// A process's memory below this much above its beginning says nothing: allocators keep some.
const MEGABYTE: f64 = 1e6;

impl Curves {
    /// The report, whose JSON is `self`.
    #[must_use]
    pub fn document(&self) -> Document {
        let mut document = Document::new("Time and memory against length");
        document.summary = self.models.iter().filter_map(in_words).collect();
        let mut memory = vec![Part::figure(
            "state",
            self.chart("tokens written", "state, MB", Scale::Linear, |model| {
                model.writing.iter().map(|at| (at.tokens as f64, at.state_bytes as f64 / MEGABYTE)).collect()
            }),
            "What a model remembers of the text: RWKV's state, the Transformer's keys and values.",
        )];
        if self.models.iter().any(|model| model.writing.iter().any(|at| at.grown_bytes.is_some())) {
            memory.push(Part::figure(
                "memory",
                self.chart("tokens written", "memory grown, MB", Scale::Linear, |model| {
                    let grown = |at: &super::Written| Some((at.tokens as f64, at.grown_bytes? as f64 / MEGABYTE));
                    model.writing.iter().filter_map(grown).collect()
                }),
                "What the process took of main memory (not of a GPU's) beyond what it had before the first token, each model in a process of \
                 its own.",
            ));
        }
        document.sections = vec![
            Section::new(
                "Writing",
                [
                    Part::figure(
                        "time",
                        self.chart("tokens written", "seconds", Scale::Linear, |model| {
                            model.writing.iter().map(|at| (at.tokens as f64, at.seconds)).collect()
                        }),
                        "Cumulative time of writing, token by token.",
                    ),
                    Part::Table(self.latencies()),
                ],
            ),
            Section::new("Memory", memory),
            Section::new(
                "Reading",
                [
                    Part::figure(
                        "reading",
                        self.chart("tokens of the prompt", "seconds", Scale::Log, |model| {
                            model.reading.iter().map(|at| (at.tokens as f64, at.seconds)).collect()
                        }),
                        "Time of reading a prompt at once.",
                    ),
                    Part::Table(self.reading()),
                ],
            ),
        ];
        document.settings.clone_from(&self.settings);
        document.settings.extend(provenance_in_words(&self.provenance));
        document
    }

    fn chart(&self, x_name: &str, y_name: &str, scale: Scale, of: impl Fn(&OfModel) -> Vec<(f64, f64)>) -> Chart {
        let (x_name, y_name) = (x_name.to_owned(), y_name.to_owned());
        let mut chart = Chart { x_name, y_name, x_scale: scale, y_scale: scale, ..Chart::default() };
        for (i, model) in self.models.iter().enumerate() {
            let look = if scale.is_log() { Look::both(i) } else { Look::line(i) };
            chart.add(&model.label, Series::new(of(model), look));
        }
        chart
    }

    fn latencies(&self) -> Table {
        let mut table = Table::new([
            Column::text("model"),
            Column::number("parameters"),
            Column::number("tokens"),
            Column::number("median, ms"),
            Column::number("90 %, ms"),
            Column::number("99 %, ms"),
        ]);
        table.caption = "Time of one token, by the part of the text that it is in.".into();
        for model in &self.models {
            for part in &model.latencies {
                let ms = |seconds: f64| Cell::from(Number::new(1e3 * seconds, 3));
                table.rows.push(vec![
                    Cell::text(&model.label),
                    Cell::text(count(model.params)),
                    Cell::text(format!("{} to {}", part.from + 1, part.to)),
                    ms(part.p50),
                    ms(part.p90),
                    ms(part.p99),
                ]);
            }
        }
        table
    }

    fn reading(&self) -> Table {
        let mut table = Table::new([
            Column::text("model"),
            Column::number("tokens"),
            Column::number("seconds"),
            Column::number("tokens/s"),
        ]);
        for model in &self.models {
            for at in &model.reading {
                table.rows.push(vec![
                    Cell::text(&model.label),
                    Cell::text(count(at.tokens)),
                    Number::new(at.seconds, 4).into(),
                    Number::new(at.tokens as f64 / at.seconds, 0).into(),
                ]);
            }
        }
        table
    }
}

/// What the curves of a model come to.
fn in_words(model: &OfModel) -> Option<String> {
    let (first, last) = (model.latencies.first()?, model.latencies.last()?);
    let (begin, end) = (model.writing.first()?, model.writing.last()?);
    let power = |points: Vec<(f64, f64)>| PowerLaw::fit(&points).map_or(f64::NAN, |law| law.exponent);
    // The first tokens are few and their times scatter.
    let later = model.writing.iter().filter(|at| at.tokens * 8 >= end.tokens);
    let exponent = power(later.map(|at| (at.tokens as f64, at.seconds)).collect());
    let megabytes = |bytes: usize| bytes as f64 / MEGABYTE;
    Some(format!(
        "{}: {} tokens in {:.2} s, {:.0} tokens/s; the time grows as the {exponent:.2}th power of their number, and a token of the \
         last quarter takes {:.2} times as long as one of the first. Its state takes {:.3} MB after the first token and {:.3} MB \
         after the last.",
        model.label,
        end.tokens,
        end.seconds,
        end.tokens as f64 / end.seconds,
        last.p50 / first.p50,
        megabytes(begin.state_bytes),
        megabytes(end.state_bytes),
    ))
}
