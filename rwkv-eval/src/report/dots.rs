//! Scores of tasks as points with their errors.

use super::Number;
use rwkv_core::chart::{Chart, Interval, Look, Series};

/// How far apart series stand in a category, whose neighbours are 1 away, at most.
const APART: f64 = 0.16;

/// A chart with the tasks side by side and a series of scores, in percent, for each label.
pub(crate) fn dots(tasks: Vec<String>, y_name: &str, series: &[(String, Vec<Option<Number>>)]) -> Chart {
    let apart = APART.min(0.7 / series.len().max(1) as f64);
    let mut chart = Chart { y_name: y_name.to_owned(), categories: tasks, ..Chart::default() };
    for (number, (label, scores)) in series.iter().enumerate() {
        let aside = apart * (number as f64 - (series.len() - 1) as f64 / 2.0);
        let (mut points, mut bars) = (Vec::new(), Vec::new());
        for (task, score) in scores.iter().enumerate() {
            if let Some(score) = score.filter(|score| score.value.is_finite()) {
                let point = (task as f64 + aside, score.value);
                points.push(point);
                bars.extend(score.error.filter(|error| error.is_finite()).map(|error| Interval::around(point, error)));
            }
        }
        if !points.is_empty() {
            chart.add(label, Series { bars, ..Series::new(points, Look::points(number)) });
        }
    }
    chart
}
