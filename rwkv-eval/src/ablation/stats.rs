//! The paired t test and Holm's correction.

use crate::scaling::mean_and_stderr;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Student's t test of paired differences against zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedT {
    /// Mean difference over its standard error; infinite where all differences are the same, which JSON has as `null`.
    pub t: f64,
    /// Degrees of freedom, pairs less one.
    pub df: usize,
    /// How probable a `t` this far from zero is, on either side, if the two do not differ.
    pub p: f64,
}

impl PairedT {
    /// The test, `t = d̄/(s/√n)` with `n − 1` degrees of freedom, or nothing for fewer than two differences: they say
    /// nothing about how far differences scatter.
    ///
    /// It takes the differences to be normally distributed.
    ///
    /// # Source
    /// "Student" (W. S. Gosset), The probable error of a mean, Biometrika 6 (1908).
    ///
    /// # Example
    /// ```
    /// use rwkv_eval::ablation::PairedT;
    /// let test = PairedT::of(&[0.1, 0.2, 0.4]).unwrap();
    /// assert_eq!(test.df, 2);
    /// assert!((test.p - 0.118).abs() < 1e-3);
    /// assert!(PairedT::of(&[0.1]).is_none());
    /// ```
    #[must_use]
    pub fn of(differences: &[f64]) -> Option<Self> {
        let (mean, stderr) = mean_and_stderr(differences);
        let (stderr, df) = (stderr?, differences.len() - 1);
        // Two variants that compute the same do not differ, though nothing scatters.
        let t = if mean == 0.0 { 0.0 } else { mean / stderr };
        let p = if t.is_infinite() { 0.0 } else { two_sided(t, df) };
        Some(Self { t, df, p })
    }
}

/// How probable a `t` as far from zero is.
fn two_sided(t: f64, df: usize) -> f64 {
    StudentsT::new(0.0, 1.0, df as f64).map_or(f64::NAN, |student| 2.0 * student.sf(t.abs()))
}

/// Holm's corrected probabilities, in the order of `ps`: with `p₍₁₎ ≤ … ≤ p₍ₘ₎`, `max over j ≤ i of min(1, (m − j + 1)·p₍ⱼ₎)`.
/// Who calls different what has one under 0.05 is wrong anywhere with a probability of at most 0.05.
///
/// # Source
/// S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
///
/// # Example
/// ```
/// let corrected = rwkv_eval::ablation::holm(&[0.04, 0.01, 0.03]);
/// assert_eq!(corrected, [0.06, 0.03, 0.06]);
/// ```
#[must_use]
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let (mut corrected, mut largest) = (vec![0.0; ps.len()], 0f64);
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((ps[i] * (ps.len() - rank) as f64).min(1.0));
        corrected[i] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SciPy` 1.17's `scipy.stats.ttest_1samp`.
    #[test]
    fn tests_are_those_of_scipy() {
        for (differences, t, p) in [
            (&[0.1, 0.2, 0.4][..], 2.6457513110645907, 0.11808289631180313),
            (&[0.031, -0.012, 0.044, 0.027, 0.008][..], 2.0039684650792258, 0.11559167725734892),
            (&[0.5, 0.7][..], 6.0, 0.10513691342250683),
        ] {
            let test = PairedT::of(differences).expect("two or more");
            assert_eq!(test.df, differences.len() - 1);
            assert!((test.t - t).abs() < 1e-9 * t && (test.p - p).abs() < 1e-9, "{test:?} is not {t}, {p}");
        }
    }

    #[test]
    fn both_sides_count_and_tails_are_exact() {
        let (up, down) = (PairedT::of(&[1.0, 2.0, 4.0]), PairedT::of(&[-1.0, -2.0, -4.0]));
        let (up, down) = (up.expect("three"), down.expect("three"));
        assert!(up.p == down.p && up.t == -down.t);
        // With two degrees of freedom p = 1 − t/√(2 + t²); with one 1 − 2·atan(t)/π.
        for t in [0.0f64, 0.3, 2.0, 50.0, 3000.0] {
            let exact = 2.0 / (2.0 + t * t) / (1.0 + t / (2.0 + t * t).sqrt());
            assert!((two_sided(t, 2) - exact).abs() < 1e-9 * exact, "{t}: {} is not {exact}", two_sided(t, 2));
            let exact = 2.0 * (1.0 / t).atan() / std::f64::consts::PI;
            assert!((two_sided(t, 1) - exact).abs() < 1e-9 * exact, "{t}: {} is not {exact}", two_sided(t, 1));
        }
    }

    #[test]
    fn differences_without_scatter_have_a_test_of_their_own() {
        let p = |differences: &[f64]| PairedT::of(differences).map(|test| test.p);
        assert_eq!(p(&[0.0, 0.0, 0.0]), Some(1.0));
        assert_eq!(p(&[0.5, 0.5, 0.5]), Some(0.0));
        assert_eq!((p(&[0.5]), p(&[])), (None, None));
    }

    /// R's `p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.9), "holm")`, and by hand.
    #[test]
    fn corrections_are_holms() {
        let close = |ps: &[f64], expected: &[f64]| {
            let corrected = holm(ps);
            assert!(corrected.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{corrected:?}");
        };
        close(&[0.01, 0.04, 0.03, 0.005, 0.9], &[0.04, 0.09, 0.09, 0.025, 0.9]);
        close(&[0.4, 0.5, 0.6], &[1.0, 1.0, 1.0]);
        close(&[0.02], &[0.02]);
        assert!(holm(&[]).is_empty());
    }
}
