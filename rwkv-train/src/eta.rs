//! How long the rest of a run takes.

use std::collections::VecDeque;

/// Marks that the moving average remembers.
const MARKS: usize = 32;
/// Seconds between two marks, at least: a window of some 16 seconds, or 32 steps where a step takes longer.
const SPACING: f64 = 0.5;

/// Tells the time that remains from the pace of the last steps.
///
/// With the oldest and the newest remembered mark `(t₀, s₀)` and `(t₁, s₁)`, the rest is
/// `(steps − s₁)·(t₁ − t₀)/(s₁ − s₀)`. Validations and checkpoints count, as they do on the clock.
///
/// # Example
/// ```
/// use rwkv_train::eta::Eta;
/// let mut eta = Eta::new(100);
/// eta.mark(0.0, 0);
/// eta.mark(4.0, 20);
/// assert_eq!(eta.seconds(), Some(16.0));
/// ```
#[derive(Debug, Clone)]
pub struct Eta {
    steps: usize,
    marks: VecDeque<(f64, usize)>,
    newest: Option<(f64, usize)>,
}

impl Eta {
    /// For a run of `steps` steps.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, marks: VecDeque::with_capacity(MARKS), newest: None }
    }

    /// `step` steps are done, `seconds` on any clock that does not run backwards.
    pub fn mark(&mut self, seconds: f64, step: usize) {
        self.newest = Some((seconds, step));
        if self.marks.back().is_none_or(|last| seconds - last.0 >= SPACING) {
            if self.marks.len() == MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back((seconds, step));
        }
    }

    /// The seconds that remain; `None` before the first two marks.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let ((then, first), (now, step)) = (*self.marks.front()?, self.newest?);
        let done = step.checked_sub(first).filter(|done| *done > 0)?;
        Some(self.steps.saturating_sub(step) as f64 * (now - then) / done as f64)
    }
}

/// A time in its two largest units, such as `1h 05m`, `3m 20s` or `42s`.
///
/// # Example
/// ```
/// use rwkv_train::eta::in_words;
/// assert_eq!((in_words(42.4), in_words(200.0), in_words(3_900.0)), ("42s".into(), "3m 20s".into(), "1h 05m".into()));
/// ```
#[must_use]
pub fn in_words(seconds: f64) -> String {
    let whole = seconds.round() as u64; // saturates: no time is negative or without end
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", whole % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_pace_of_late_and_forgets_the_start() {
        let mut eta = Eta::new(1000);
        assert_eq!(eta.seconds(), None);
        for step in 0..=100 {
            eta.mark(step as f64 * 10.0, step); // ten seconds a step
        }
        assert_eq!(eta.seconds(), Some(9000.0));
        for step in 101..=200 {
            eta.mark(1000.0 + (step - 100) as f64, step); // then one
        }
        assert_eq!(eta.seconds(), Some(800.0));
    }

    #[test]
    fn fast_steps_are_averaged_over_seconds_not_over_32_of_them() {
        let mut eta = Eta::new(100_000);
        for step in 0..10_000 {
            eta.mark(step as f64 / 1024.0, step);
        }
        assert_eq!(eta.marks.front().expect("a mark").1, 0, "the start is 10 seconds ago");
        assert_eq!(eta.seconds(), Some(90_001.0 / 1024.0));
    }

    #[test]
    fn a_resumed_run_and_the_end_are_no_special_cases() {
        let mut eta = Eta::new(60);
        eta.mark(0.0, 50);
        assert_eq!(eta.seconds(), None);
        eta.mark(3.0, 51);
        assert_eq!(eta.seconds(), Some(27.0));
        eta.mark(30.0, 60);
        assert_eq!(eta.seconds(), Some(0.0));
    }

    #[test]
    fn words_have_two_units() {
        for (seconds, words) in [(0.2, "0s"), (59.6, "1m 00s"), (3_599.0, "59m 59s"), (90_000.0, "1d 01h")] {
            assert_eq!(in_words(seconds), words);
        }
    }
}
