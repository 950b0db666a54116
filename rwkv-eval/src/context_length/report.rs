//! The report of losses by context.

use super::{ContextLengths, OfModel};
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, count, provenance_in_words};
use rwkv_core::chart::{Chart, Interval, Look, Scale, Series};

/// Standard errors on either side that 95 % of a normal distribution lie within.
const CONFIDENCE: f64 = 1.96;

impl ContextLengths {
    /// The report, whose JSON is `self`.
    #[must_use]
    pub fn document(&self) -> Document {
        let mut document = Document::new("Loss by context");
        document.summary = self.models.iter().filter_map(verdict).collect();
        document.sections = vec![
            Section::new(
                "By length of the context",
                [
                    Part::text(
                        "The same targets at the end of each window, predicted after so many tokens. The change is taken \
                         window by window against the shortest context.",
                    ),
                    Part::Table(self.by_length()),
                    Part::figure(
                        "length",
                        self.chart("tokens of context", |model| {
                            model.by_length.iter().map(|at| ((at.ctx_len as f64, at.loss), at.stderr)).collect()
                        }),
                        "Loss of the same targets by the length of their context, with 95 % confidence over windows.",
                    ),
                ],
            ),
            Section::new(
                "By position",
                [Part::figure(
                    "position",
                    self.chart("tokens before", |model| {
                        let middle = |from: usize, to: usize| (from as f64 * (to - 1) as f64).sqrt();
                        let at = |at: &super::AtPosition| ((middle(at.from, at.to), at.loss), at.stderr);
                        model.by_position.iter().map(at).collect()
                    }),
                    "Loss of a token by the number of tokens before it, with 95 % confidence over windows.",
                )],
            ),
        ];
        document.settings.clone_from(&self.settings);
        document.settings.extend(provenance_in_words(&self.provenance));
        document
    }

    fn by_length(&self) -> Table {
        let mut columns = vec![Column::text("model"), Column::number("parameters"), Column::number("context")];
        columns.extend([Column::number("loss"), Column::number("change")]);
        let mut table = Table::new(columns);
        table.caption = "Mean loss in nats per token, with standard errors over windows.".into();
        for model in &self.models {
            for at in &model.by_length {
                table.rows.push(vec![
                    Cell::text(&model.label),
                    Cell::text(count(model.params)),
                    Number::new(at.ctx_len as f64, 0).into(),
                    Number::new(at.loss, 4).with_error(at.stderr).into(),
                    Number::new(at.change, 4).with_error(at.change_stderr).into(),
                ]);
            }
        }
        table
    }

    fn chart(&self, x_name: &str, of: impl Fn(&OfModel) -> Vec<((f64, f64), f64)>) -> Chart {
        let (x_name, y_name) = (x_name.to_owned(), "loss, nats per token".to_owned());
        let mut chart = Chart { x_name, y_name, x_scale: Scale::Log2, ..Chart::default() };
        for (i, model) in self.models.iter().enumerate() {
            let points = of(model);
            let band = points.iter().map(|&(point, error)| Interval::around(point, CONFIDENCE * error)).collect();
            let points = points.into_iter().map(|(point, _)| point).collect();
            chart.add(&model.label, Series { band, ..Series::new(points, Look::both(i)) });
        }
        chart
    }
}

/// Whether a longer context lowered the loss.
fn verdict(model: &OfModel) -> Option<String> {
    let (first, last) = (model.by_length.first()?, model.by_length.last()?);
    let best = model.by_length.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
    let what = if last.change + CONFIDENCE * last.change_stderr < 0.0 {
        "a longer context lowers the loss"
    } else if last.change - CONFIDENCE * last.change_stderr > 0.0 {
        "a longer context raises the loss"
    } else {
        "a longer context makes no difference that these windows tell"
    };
    Some(format!(
        "{}: {what}, from {:.4} after {} tokens to {:.4} after {} ({:+.4} ± {:.4}); it is lowest after {}.",
        model.label, first.loss, first.ctx_len, last.loss, last.ctx_len, last.change, last.change_stderr, best.ctx_len
    ))
}
