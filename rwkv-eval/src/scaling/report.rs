//! The report of a comparison of sizes.

use super::{Difference, Family, Group, Law, Scaling};
use crate::fit::PowerLaw;
use crate::report::{Cell, Column, Document, Number, Part, Section, Table, count, provenance_in_words};
use rwkv_core::chart::{Chart, Interval, Look, Scale, Series};

impl Scaling {
    /// The report, whose JSON is `self`.
    #[must_use]
    pub fn document(&self) -> Document {
        let (groups, differences, laws) = (self.groups(), self.differences(), self.laws());
        let mut document = Document::new("RWKV-4 and a Transformer, size by size");
        document.summary.push(verdict(&differences));
        document.warnings.extend(single_seed(&groups));
        document.sections = vec![
            Section::new(
                "Loss",
                [
                    Part::Table(losses(&groups, &differences)),
                    Part::figure(
                        "loss-params",
                        against_params(&groups, &laws),
                        "Held-out loss against parameters without embedding and head. Lines are power laws.",
                    ),
                    Part::figure(
                        "loss-flops",
                        self.against_flops(&groups, &laws),
                        "Held-out loss against floating-point operations of the training: pale lines on the way, points at \
                         the end.",
                    ),
                ],
            ),
            Section::new("Power laws", [Part::Table(laws_table(&laws))]),
        ];
        document.settings.clone_from(&self.settings);
        document.settings.extend(provenance_in_words(&self.provenance));
        document
    }

    fn against_flops(&self, groups: &[Group], laws: &[Law]) -> Chart {
        let mut chart = Chart {
            x_name: "floating-point operations".into(),
            y_name: "loss, nats per token".into(),
            x_scale: Scale::Log,
            y_scale: Scale::Log,
            ..Chart::default()
        };
        for run in &self.runs {
            let points = run.curve.iter().map(|at| (at.flops, at.loss)).collect();
            chart.series.push(Series::new(points, Look::pale(number(run.family))));
        }
        with_laws(chart, groups, laws, |group| group.flops, |law| law.of_flops)
    }
}

/// A family's colour.
fn number(family: Family) -> usize {
    match family {
        Family::Rwkv => 0,
        Family::Transformer => 1,
    }
}

fn verdict(differences: &[Difference]) -> String {
    let lower = differences.iter().filter(|difference| difference.loss <= 0.0).count();
    let list = differences.iter().map(|difference| {
        let error = difference.stderr.map_or_else(String::new, |error| format!(" ± {error:.4}"));
        format!("{} {:+.4}{error}", difference.size, difference.loss)
    });
    let list = list.collect::<Vec<_>>().join(", ");
    let what = match (lower, differences.len()) {
        (_, 0) => return "The two families have no size in common, so there is nothing to compare.".to_owned(),
        (lower, all) if lower == all => "RWKV-4's loss is at or under the Transformer's at every size".to_owned(),
        (0, _) => "RWKV-4's loss is above the Transformer's at every size".to_owned(),
        (lower, all) => format!("RWKV-4's loss is at or under the Transformer's at {lower} of {all} sizes"),
    };
    format!("{what}. Its loss less the Transformer's, in nats per token: {list}.")
}

fn single_seed(groups: &[Group]) -> Option<String> {
    groups
        .iter()
        .any(|group| group.seeds == 1)
        .then(|| "Sizes with one seed have no error: what a seed changes is not known from them.".to_owned())
}

fn losses(groups: &[Group], differences: &[Difference]) -> Table {
    let mut table = Table::new([
        Column::text("size"),
        Column::text("family"),
        Column::number("parameters"),
        Column::number("of blocks"),
        Column::number("operations"),
        Column::number("loss"),
        Column::number("RWKV-4 less Transformer"),
        Column::number("minutes a run"),
    ]);
    table.caption = "Mean held-out loss at the end, in nats per token, with the standard error over seeds.".into();
    let mut sizes: Vec<&Group> = groups.iter().collect();
    let order: Vec<&str> =
        groups.iter().filter(|group| group.family == groups[0].family).map(|g| g.size.as_str()).collect();
    sizes.sort_by_key(|group| (order.iter().position(|size| *size == group.size), group.family));
    for group in sizes {
        let best = !groups.iter().any(|other| other.size == group.size && other.loss < group.loss);
        let loss = Number { error: group.stderr, best, ..Number::new(group.loss, 4) };
        let difference = differences.iter().find(|difference| difference.size == group.size);
        let difference = difference.filter(|_| group.family == Family::Rwkv);
        let difference = difference.map(|found| Number { error: found.stderr, ..Number::new(found.loss, 4) });
        table.rows.push(vec![
            Cell::text(&group.size),
            Cell::text(group.family.name()),
            Cell::text(count(group.params)),
            Cell::text(count(group.params_of_blocks)),
            Cell::text(format!("{:.2e}", group.flops)),
            loss.into(),
            difference.into(),
            Number::new(group.seconds / 60.0, 1).into(),
        ]);
    }
    table
}

fn laws_table(laws: &[Law]) -> Table {
    let mut table = Table::new([
        Column::text("family"),
        Column::text("loss against"),
        Column::text("law"),
        Column::number("points"),
        Column::number("r²"),
    ]);
    for law in laws {
        for (what, symbol, fit) in [("parameters", 'N', law.of_params), ("operations", 'F', law.of_flops)] {
            let Some(PowerLaw { coefficient, exponent, r_squared, points }) = fit else { continue };
            table.rows.push(vec![
                Cell::text(law.family.name()),
                Cell::text(what),
                Cell::text(format!("{coefficient:.3}·{symbol}^{exponent:.4}")),
                Number::new(points as f64, 0).into(),
                r_squared.map(|share| Number::new(share, 4)).into(),
            ]);
        }
    }
    table
}

fn against_params(groups: &[Group], laws: &[Law]) -> Chart {
    let chart = Chart {
        x_name: "parameters without embedding and head".into(),
        y_name: "loss, nats per token".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        ..Chart::default()
    };
    with_laws(chart, groups, laws, |group| group.params_of_blocks as f64, |law| law.of_params)
}

/// Adds every family's points, with their errors, and its law.
fn with_laws(
    mut chart: Chart,
    groups: &[Group],
    laws: &[Law],
    x: impl Fn(&Group) -> f64,
    of: impl Fn(&Law) -> Option<PowerLaw>,
) -> Chart {
    for law in laws {
        let family = number(law.family);
        let groups: Vec<&Group> = groups.iter().filter(|group| group.family == law.family).collect();
        let points: Vec<(f64, f64)> = groups.iter().map(|group| (x(group), group.loss)).collect();
        let bars = groups.iter().filter_map(|group| Some(Interval::around((x(group), group.loss), group.stderr?)));
        let bars = bars.collect();
        chart.add(law.family.name(), Series { bars, ..Series::new(points.clone(), Look::points(family)) });
        if let (Some(fit), Some(first), Some(last)) = (of(law), points.first(), points.last()) {
            let (from, to) = (first.0.min(last.0), first.0.max(last.0));
            let line = [0.8 * from, 1.25 * to].map(|x| (x, fit.at(x))).to_vec();
            chart.add(format!("x^{:.3}", fit.exponent), Series::new(line, Look::line(family)));
        }
    }
    chart
}
