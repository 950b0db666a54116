//! The pictures of a study.

use super::{Curve, Standing, Study};
use crate::report::Part;
use crate::scaling::mean_and_stderr;
use rwkv_core::chart::{Chart, Interval, Look, Scale, Series};

/// Colours of the ranked plot: the variants' and the baseline's.
const VARIANT: usize = 0;
const BASELINE: usize = 1;
/// More names do not fit under a ranked plot, nor more lines into one of curves.
const MOST: usize = 8;

/// Whether the ranked plot has the places of the variants under it instead of their names.
pub(super) fn has_numbers(standings: &[Standing]) -> bool {
    standings.len() > MOST
}

/// Means with their errors, from the best to the worst, over the runs themselves; nothing without a run.
pub(super) fn ranked(study: &Study, standings: &[Standing]) -> Option<Part> {
    let shown: Vec<&Standing> = standings.iter().filter(|standing| standing.mean.is_some()).collect();
    let mut chart = Chart { y_name: axis(study), ..Chart::default() };
    let numbers = has_numbers(standings);
    let name = |(place, standing): (usize, &&Standing)| {
        if numbers { (place + 1).to_string() } else { standing.variant.clone() }
    };
    chart.categories = shown.iter().enumerate().map(name).collect();
    let (mut runs, mut means) = (Vec::new(), [VARIANT, BASELINE].map(|_| Series::default()));
    for (place, standing) in shown.iter().enumerate() {
        let is_baseline = standing.variant == study.baseline();
        let series = &mut means[usize::from(is_baseline)];
        let point = (place as f64, standing.mean?);
        series.points.push(point);
        series.bars.extend(standing.stderr.map(|error| Interval::around(point, error)));
        // Beside the mean, where its marker does not hide them.
        runs.extend(study.values(&standing.variant).into_iter().map(|(_, value)| (place as f64 + 0.14, value)));
        if is_baseline {
            let across = vec![(-0.5, point.1), (shown.len() as f64 - 0.5, point.1)];
            chart
                .series
                .push(Series::new(across, Look { marks: rwkv_core::chart::Marks::Line, ..Look::pale(BASELINE) }));
        }
    }
    let [variants, baseline] = means;
    let grey = Look { number: None, bold: false, marks: rwkv_core::chart::Marks::Points };
    for (label, series, look) in [
        ("variant, ± standard error", variants, Look::points(VARIANT)),
        ("baseline", baseline, Look::points(BASELINE)),
        ("a run", Series::new(runs, grey), grey),
    ] {
        if !series.points.is_empty() {
            chart.add(label, Series { look, ..series });
        }
    }
    let better = if study.metric.lower_is_better() { "lower" } else { "higher" };
    let who = if numbers { " Numbers are those of the table." } else { "" };
    let caption = format!("From the best to the worst; {better} is better. The line is the baseline's mean.{who}");
    (!shown.is_empty()).then(|| Part::figure("ranking", chart, caption))
}

/// The metric against `x`, a line for each group; nothing where fewer than two variants have an `x`.
pub(super) fn against_x(study: &Study, standings: &[Standing]) -> Option<Part> {
    let mut groups: Vec<&str> = Vec::new();
    let mut xs = Vec::new();
    for variant in &study.variants {
        let group = variant.group.as_deref().unwrap_or_default();
        if variant.x.is_some() && !groups.contains(&group) {
            groups.push(group);
        }
        xs.extend(variant.x);
    }
    let (low, high) = xs.iter().fold((f64::INFINITY, 0f64), |(low, high), x| (low.min(*x), high.max(*x)));
    let x_scale = if low > 0.0 && high / low >= 8.0 { Scale::Log2 } else { Scale::Linear };
    let mut chart = Chart { x_name: "x".into(), y_name: axis(study), x_scale, ..Chart::default() };
    for (number, group) in groups.iter().enumerate() {
        let mut series = Series { look: Look::both(number), ..Series::default() };
        for variant in study.variants.iter().filter(|variant| variant.group.as_deref().unwrap_or_default() == *group) {
            let standing = standings.iter().find(|standing| standing.variant == variant.name);
            let Some((x, standing)) = variant.x.zip(standing) else { continue };
            let Some(mean) = standing.mean else { continue };
            series.points.push((x, mean));
            series.bars.extend(standing.stderr.map(|error| Interval::around((x, mean), error)));
        }
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !series.points.is_empty() {
            chart.add(if group.is_empty() { "variants" } else { group }, series);
        }
    }
    let points: usize = chart.series.iter().map(|series| series.points.len()).sum();
    (points >= 2).then(|| Part::figure("x", chart, "Mean and standard error over seeds against the variants' x."))
}

/// Means of the held-out losses over seeds, step by step, the best variant first; of many variants the best, the baseline and
/// the worst.
pub(super) fn curves(study: &Study, standings: &[Standing]) -> Option<Part> {
    let mut chart = Chart {
        x_name: "step".into(),
        y_name: "held-out loss, nats per token".into(),
        y_scale: Scale::Log,
        ..Chart::default()
    };
    let some: Vec<&Standing> = (standings.iter().enumerate())
        .filter(|(place, standing)| {
            let at_the_ends = *place < MOST / 2 || place + MOST / 2 > standings.len();
            !has_numbers(standings) || at_the_ends || standing.variant == study.baseline()
        })
        .map(|(_, standing)| standing)
        .collect();
    for (number, standing) in some.into_iter().enumerate() {
        let of_variant: Vec<&Curve> = study.curves.iter().filter(|curve| curve.variant == standing.variant).collect();
        let mut series = Series { look: Look::line(number), ..Series::default() };
        let mut steps: Vec<usize> = of_variant.iter().flat_map(|curve| &curve.points).map(|point| point.0).collect();
        steps.sort_unstable();
        steps.dedup();
        for step in steps {
            let at = |curve: &&Curve| curve.points.iter().find(|point| point.0 == step).map(|point| point.1);
            let losses: Vec<f64> = of_variant.iter().filter_map(at).collect();
            // A mean over other runs than the step before it would jump.
            if losses.len() < of_variant.len() {
                continue;
            }
            let (mean, stderr) = mean_and_stderr(&losses);
            series.points.push((step as f64, mean));
            series.band.extend(stderr.map(|error| Interval::around((step as f64, mean), error)));
        }
        if series.points.len() > 1 {
            chart.add(&standing.variant, series);
        }
    }
    let which = if has_numbers(standings) { "; the best four variants, the baseline and the worst three" } else { "" };
    let caption = format!(
        "Mean held-out loss over the seeds that ended well, and its standard error as a band; the best variant first{which}."
    );
    (!chart.series.is_empty()).then(|| Part::figure("curves", chart, caption))
}

fn axis(study: &Study) -> String {
    format!("{}: {}", study.metric, study.metric.described())
}
