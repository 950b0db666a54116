//! An axis: its range, its ticks and what they are called.

use super::Scale;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Ticks on an axis, at most about.
const TICKS: f64 = 9.0;

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From the least to the largest of `values`, with a margin of this share of the range at both ends; `None` when
    /// there are no values.
    ///
    /// On a logarithmic axis only positive values have a place.
    pub(super) fn around(values: impl Iterator<Item = f64>, scale: Scale, margin: f64) -> Option<Self> {
        let log = scale.is_log();
        let (low, high) = values
            .filter(|value| value.is_finite() && (!log || *value > 0.0))
            .map(|value| if log { value.log10() } else { value })
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
        let ticks = match scale {
            Scale::Linear => even_ticks(low, high),
            Scale::Log => log_ticks(low, high),
            Scale::Log2 => binary_ticks(low, high),
        };
        Some(Self { low, high, scale, ticks })
    }

    /// Room for so many categories, which stand at 0, 1, 2, ….
    pub(super) fn of_categories(count: usize) -> Self {
        Self { low: -0.5, high: count as f64 - 0.5, scale: Scale::Linear, ticks: Vec::new() }
    }

    /// Whether `value` has a place on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (!self.scale.is_log() || value > 0.0)
    }

    /// The place of a value, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.scale.is_log() { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// The value, or the end of the axis that is nearest to it; errors reach below zero where logarithms do not.
    pub(super) fn within(&self, value: f64) -> f64 {
        let Range { start, end } = self.range();
        if value.is_nan() { start } else { value.clamp(start, end) }
    }

    /// The longest name of a tick, in characters.
    pub(super) fn longest_name(&self) -> usize {
        self.ticks.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.place(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        let value = |place: f64| if self.scale.is_log() { 10f64.powf(place) } else { place };
        value(self.low)..value(self.high)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map_or_else(String::new, |(_, name)| name.clone())
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, all named in one unit.
fn even_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    // 0.3 / 0.1 is less than 3: the ends of the range would lose their ticks to rounding.
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    // The division undoes what adding up steps would round.
    let tick = |i: i64| if step < 1.0 { i as f64 / (1.0 / step).round() } else { i as f64 * step };
    let ticks: Vec<f64> = (first..=last).map(tick).collect();
    let largest = ticks.iter().fold(0.0, |largest: f64, tick| largest.max(tick.abs()));
    ticks.iter().map(|tick| (*tick, name(*tick, largest, step))).collect()
}

/// Powers of ten; on short ranges 2 and 5 times those, too; even ticks within less than a decade.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    let (below, above) = (10f64.powf(low), 10f64.powf(high));
    if high - low < 1.0 {
        return even_ticks(below, above).into_iter().filter(|(tick, _)| *tick > 0.0).collect();
    }
    let ticks: Vec<f64> = if high - low < 2.5 {
        // The ends may be ticks, and have come through a logarithm.
        let inside = |tick: &f64| (below * (1.0 - 1e-9)..=above * (1.0 + 1e-9)).contains(tick);
        (first - 1..=last).flat_map(|i| [1.0, 2.0, 5.0].map(|factor| factor * power_of_ten(i))).filter(inside).collect()
    } else {
        let every = ((last - first) / 10 + 1) as usize;
        (first..=last).step_by(every).map(power_of_ten).collect()
    };
    ticks.into_iter().map(|tick| (tick, name(tick, tick, tick))).collect()
}

/// Powers of two; even ticks where there would be fewer than two.
fn binary_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let exponent = |place: f64| place / std::f64::consts::LOG10_2;
    let (first, last) = ((exponent(low) - 1e-9).ceil() as i32, (exponent(high) + 1e-9).floor() as i32);
    if last <= first {
        return log_ticks(low, high);
    }
    let every = ((last - first) / 12 + 1) as usize;
    let name = |i: i32| if (0..20).contains(&i) { format!("{}", 1 << i) } else { format!("2^{i}") };
    (first..=last).step_by(every).map(|i| (2f64.powi(i), name(i))).collect()
}

/// Exact where `powi` of 10 with a negative exponent is not.
fn power_of_ten(exponent: i32) -> f64 {
    if exponent < 0 { 1.0 / 10f64.powi(-exponent) } else { 10f64.powi(exponent) }
}

/// A number in the unit that suits `scale`, with as many decimals as steps of this size need.
fn name(number: f64, scale: f64, step: f64) -> String {
    let scale = scale.abs();
    if number == 0.0 {
        return "0".to_owned();
    }
    if !(5e-3..1e15).contains(&scale) {
        let decimals = 1.0 + number.abs().log10().floor() - step.log10().floor();
        let text = format!("{number:.*e}", decimals.clamp(0.0, 15.0) as usize);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    // From where on, in which unit: thousands have four digits before they get one.
    let units = [(1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    let unit = units.into_iter().find(|(from, ..)| scale >= *from);
    let (unit, suffix) = unit.map_or((1.0, ""), |(_, unit, suffix)| (unit, suffix));
    let decimals = (-(step / unit).log10() - 1e-9).ceil().clamp(0.0, 15.0) as usize;
    trimmed(&format!("{:.decimals$}", number / unit)) + suffix
}

fn trimmed(digits: &str) -> String {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(values: [f64; 2], scale: Scale) -> Vec<String> {
        let axis = Axis::around(values.into_iter(), scale, 0.0).expect("values");
        axis.ticks.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let names = |values| names(values, Scale::Linear);
        assert_eq!(names([0.0, 2000.0]), ["0", "500", "1000", "1500", "2000"]);
        assert_eq!(names([1.58, 4.2]), ["2", "2.5", "3", "3.5", "4"]);
        assert_eq!(names([0.0, 30_000.0]), ["0", "5k", "10k", "15k", "20k", "25k", "30k"]);
        assert_eq!(names([0.0, 1.5e9]), ["0", "0.2G", "0.4G", "0.6G", "0.8G", "1G", "1.2G", "1.4G"]);
        assert_eq!(names([0.0, 1e-3]), ["0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"]);
        assert_eq!(names([1e15, 4e18]).last().expect("ticks"), "4e18");
        assert_eq!(names([-0.3, 0.3]), ["-0.3", "-0.2", "-0.1", "0", "0.1", "0.2", "0.3"]);
    }

    #[test]
    fn close_ticks_have_names_of_their_own() {
        for (low, high) in [(1.234_56, 1.234_62), (1_000_000.1, 1_000_000.3), (1.2e-7, 1.2003e-7), (99.9, 100.1)] {
            for scale in [Scale::Linear, Scale::Log, Scale::Log2] {
                let names = names([low, high], scale);
                let different: std::collections::HashSet<_> = names.iter().collect();
                assert!(different.len() == names.len() && names.len() >= 3, "{names:?}");
            }
        }
    }

    #[test]
    fn logarithmic_ticks_thin_out_with_the_range() {
        let names = |values| names(values, Scale::Log);
        assert_eq!(names([1.5, 4.0]), ["1.5", "2", "2.5", "3", "3.5", "4"]);
        assert_eq!(names([1.0, 40.0]), ["1", "2", "5", "10", "20"]);
        assert_eq!(names([0.1, 10.0]), ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert_eq!(names([1e-5, 1e-2]), ["1e-5", "1e-4", "1e-3", "0.01"]);
        assert_eq!(names([10.0, 1e7]), ["10", "100", "1000", "10k", "100k", "1M", "10M"]);
        assert!(names([1e-9, 1e30]).len() <= 12);
    }

    #[test]
    fn binary_ticks_are_powers_of_two() {
        let names = |values| names(values, Scale::Log2);
        assert_eq!(names([2.0, 128.0]), ["2", "4", "8", "16", "32", "64", "128"]);
        assert_eq!(names([300.0, 9000.0]), ["512", "1024", "2048", "4096", "8192"]);
        assert_eq!(names([0.5, 4.0]), ["2^-1", "1", "2", "4"]);
        assert_eq!(names([5.0, 7.0]), ["5", "5.5", "6", "6.5", "7"]);
        assert!(names([1.0, 1e12]).len() <= 13);
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        let axis = Axis::around([0.0, f64::NAN, 1.0, 10.0].into_iter(), Scale::Log, 0.0).expect("two values");
        assert!(!axis.holds(0.0) && !axis.holds(f64::NAN) && axis.holds(3.0));
        assert_eq!((axis.place(1.0), axis.place(10.0)), (0.0, 1.0));
        assert_eq!([-1.0, 3.0, f64::INFINITY].map(|value| axis.within(value)), [1.0, 3.0, 10.0]);
        assert!(Axis::around([0.0, -1.0].into_iter(), Scale::Log, 0.0).is_none());
        assert!(Axis::around([].into_iter(), Scale::Linear, 0.0).is_none());
    }

    #[test]
    fn one_value_is_in_the_middle() {
        for (value, scale) in [(2.0, Scale::Linear), (0.0, Scale::Linear), (-3.0, Scale::Linear), (2.0, Scale::Log)] {
            let axis = Axis::around([value].into_iter(), scale, 0.05).expect("a value");
            assert!((axis.place(value) - 0.5).abs() < 1e-6, "{value} {scale:?}");
        }
    }
}
