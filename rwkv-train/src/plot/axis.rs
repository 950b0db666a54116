//! An axis: its range, its ticks and what they are called.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Ticks on an axis, at most about.
const TICKS: f64 = 9.0;

/// A straight or logarithmic axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From the least to the largest of `values`, with a margin of this share of the range at both ends; `None` when
    /// there are no values.
    ///
    /// On a logarithmic axis only positive values have a place.
    pub(super) fn around(values: impl Iterator<Item = f64>, log: bool, margin: f64) -> Option<Self> {
        let scale = |value: f64| if log { value.log10() } else { value };
        let (low, high) = values
            .filter(|value| value.is_finite() && (!log || *value > 0.0))
            .map(scale)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        // One value alone gets some room.
        let room = if high > low {
            margin * (high - low)
        } else if log {
            0.5
        } else {
            (0.05 * high.abs()).max(1e-9)
        };
        let (low, high) = (low - room, high + room);
        let ticks = if log { log_ticks(low, high) } else { even_ticks(low, high) };
        Some(Self { low, high, log, ticks })
    }

    /// Whether `value` has a place on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    /// The place of a value, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// What a tick is called: all of a straight axis' ticks in one unit, each of a logarithmic one's in its own.
    pub(super) fn name(&self, tick: f64) -> String {
        let largest = self.ticks.iter().fold(0.0, |largest: f64, tick| largest.max(tick.abs()));
        name(tick, if self.log { tick } else { largest })
    }

    /// The longest name of a tick, in characters.
    pub(super) fn longest_name(&self) -> usize {
        self.ticks.iter().map(|tick| self.name(*tick).chars().count()).max().unwrap_or(0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.place(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        let value = |place: f64| if self.log { 10f64.powf(place) } else { place };
        value(self.low)..value(self.high)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, tick: &f64) -> String {
        self.name(*tick)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn even_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    // 0.3 / 0.1 is less than 3: the ends of the range would lose their ticks to rounding.
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    // The division undoes what adding up steps would round.
    (first..=last).map(|i| if step < 1.0 { i as f64 / (1.0 / step).round() } else { i as f64 * step }).collect()
}

/// Powers of ten; with fewer than three of them 2 and 5 times those, too; even ticks within less than a decade.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    if high - low < 1.0 {
        return even_ticks(10f64.powf(low), 10f64.powf(high)).into_iter().filter(|tick| *tick > 0.0).collect();
    }
    if last - first < 2 {
        let inside = |tick: &f64| (low..=high).contains(&tick.log10());
        return (first - 1..=last)
            .flat_map(|i| [1.0, 2.0, 5.0].map(|factor| factor * power_of_ten(i)))
            .filter(inside)
            .collect();
    }
    let every = ((last - first) / 10 + 1) as usize;
    (first..=last).step_by(every).map(power_of_ten).collect()
}

/// Exact where `powi` of 10 with a negative exponent is not.
fn power_of_ten(exponent: i32) -> f64 {
    if exponent < 0 { 1.0 / 10f64.powi(-exponent) } else { 10f64.powi(exponent) }
}

/// A number in the unit that suits `scale`.
fn name(number: f64, scale: f64) -> String {
    let scale = scale.abs();
    if number == 0.0 {
        return "0".to_owned();
    }
    if !(5e-3..1e15).contains(&scale) {
        let text = format!("{number:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    // From where on, in which unit: thousands have four digits before they get one.
    let units = [(1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    match units.into_iter().find(|(from, ..)| scale >= *from) {
        Some((_, unit, name)) => trimmed(&format!("{:.2}", number / unit)) + name,
        None => trimmed(&format!("{number:.4}")),
    }
}

fn trimmed(digits: &str) -> String {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(values: [f64; 2], log: bool) -> Vec<String> {
        let axis = Axis::around(values.into_iter(), log, 0.0).expect("values");
        axis.ticks.iter().map(|tick| axis.name(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(names([0.0, 2000.0], false), ["0", "500", "1000", "1500", "2000"]);
        assert_eq!(names([1.58, 4.2], false), ["2", "2.5", "3", "3.5", "4"]);
        assert_eq!(names([0.0, 30_000.0], false), ["0", "5k", "10k", "15k", "20k", "25k", "30k"]);
        assert_eq!(names([0.0, 1.5e9], false), ["0", "0.2G", "0.4G", "0.6G", "0.8G", "1G", "1.2G", "1.4G"]);
        assert_eq!(names([0.0, 1e-3], false), ["0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"]);
        assert_eq!(names([1e15, 4e18], false).last().expect("ticks"), "4e18");
        assert_eq!(names([-0.3, 0.3], false), ["-0.3", "-0.2", "-0.1", "0", "0.1", "0.2", "0.3"]);
    }

    #[test]
    fn logarithmic_ticks_thin_out_with_the_range() {
        assert_eq!(names([1.5, 4.0], true), ["1.5", "2", "2.5", "3", "3.5", "4"]);
        assert_eq!(names([1.0, 40.0], true), ["1", "2", "5", "10", "20"]);
        assert_eq!(names([1e-5, 1e-2], true), ["1e-5", "1e-4", "1e-3", "0.01"]);
        assert_eq!(names([10.0, 1e7], true), ["10", "100", "1000", "10k", "100k", "1M", "10M"]);
        assert!(names([1e-9, 1e30], true).len() <= 12);
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        let axis = Axis::around([0.0, f64::NAN, 1.0, 10.0].into_iter(), true, 0.0).expect("two values");
        assert!(!axis.holds(0.0) && !axis.holds(f64::NAN) && axis.holds(3.0));
        assert_eq!((axis.place(1.0), axis.place(10.0)), (0.0, 1.0));
        assert!(Axis::around([0.0, -1.0].into_iter(), true, 0.0).is_none());
        assert!(Axis::around([].into_iter(), false, 0.0).is_none());
    }

    #[test]
    fn one_value_is_in_the_middle() {
        for (value, log) in [(2.0, false), (0.0, false), (-3.0, false), (2.0, true)] {
            let axis = Axis::around([value].into_iter(), log, 0.05).expect("a value");
            assert!((axis.place(value) - 0.5).abs() < 1e-6, "{value} {log}");
        }
    }
}
