//! Metrics, counts and times, as people read them.

use super::table::Number;
use std::collections::BTreeMap;

/// The end of a standard error's name.
const ERROR: &str = "_stderr";
/// Metrics that come first, in this order.
const FIRST: [&str; 4] = ["acc", "acc_norm", "acc_bytes", "perplexity"];

/// Whether a metric is a share of one, which is shown in percent.
#[must_use]
pub fn is_share(metric: &str) -> bool {
    metric.starts_with("acc") || matches!(metric, "f1" | "em" | "exact_match")
}

/// The metrics of tasks without their errors, the usual ones first.
///
/// # Example
/// ```
/// let metrics = [("acc".to_owned(), 0.5), ("acc_stderr".to_owned(), 0.1), ("abc".to_owned(), 1.0)].into();
/// assert_eq!(rwkv_eval::report::metric_names([&metrics]), ["acc", "abc"]);
/// ```
pub fn metric_names<'a>(tasks: impl IntoIterator<Item = &'a BTreeMap<String, f64>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = tasks.into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    names.retain(|name| !name.ends_with(ERROR));
    names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
    names.dedup();
    names
}

/// What a metric is called in a heading.
pub(crate) fn heading(metric: &str) -> String {
    if is_share(metric) { format!("{metric}, %") } else { metric.to_owned() }
}

/// A metric of a task with its error.
pub(crate) fn metric(metrics: &BTreeMap<String, f64>, name: &str) -> Option<Number> {
    let factor = if is_share(name) { 100.0 } else { 1.0 };
    let number = Number::new(factor * metrics.get(name)?, 2);
    let error = metrics.get(&format!("{name}{ERROR}"));
    Some(error.map_or(number, |error| number.with_error(factor * error)))
}

/// A count with its thousands set apart.
///
/// # Example
/// ```
/// assert_eq!(rwkv_eval::report::count(169_342_464), "169,342,464");
/// ```
#[must_use]
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in seconds since 1970 as `2024-02-29 12:00:00 UTC`.
///
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms": years are counted from March, so that the leap day is
/// the last, in eras of 400 years.
#[must_use]
pub fn date(unix_time: u64) -> String {
    let (days, seconds) = (unix_time / 86_400 + 719_468, unix_time % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (time, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_208_000, "2024-02-29 12:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(time), expected);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
