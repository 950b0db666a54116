//! Power laws through measured points.

use serde::{Deserialize, Serialize};

/// `y = coefficient · x^exponent`, fitted as a line through the logarithms by least squares.
///
/// # Source
/// Paper (second version) §4.2, whose scaling law is such a line; Kaplan et al. (arXiv 2001.08361).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// What `y` is at `x = 1`.
    pub coefficient: f64,
    /// The slope of the line; negative where `y` falls.
    pub exponent: f64,
    /// The share of the variance of `ln y` that the line explains; nothing for two points, which any line explains.
    pub r_squared: Option<f64>,
    /// How many points it goes through.
    pub points: usize,
}

impl PowerLaw {
    /// The law of these points; nothing for fewer than two different places, or numbers that are not positive.
    ///
    /// # Example
    /// ```
    /// use rwkv_eval::fit::PowerLaw;
    /// let law = PowerLaw::fit(&[(1.0, 3.0), (4.0, 1.5), (16.0, 0.75)]).unwrap();
    /// assert!((law.exponent + 0.5).abs() < 1e-12 && (law.at(64.0) - 0.375).abs() < 1e-12);
    /// assert!((law.r_squared.unwrap() - 1.0).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let usable = |x: f64| x.is_finite() && x > 0.0;
        if points.is_empty() || !points.iter().all(|&(x, y)| usable(x) && usable(y)) {
            return None;
        }
        let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let count = logs.len() as f64;
        let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
        let sum = |f: &dyn Fn(f64, f64) -> f64| logs.iter().map(|&(x, y)| f(x - mean_x, y - mean_y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if xx <= 1e-12 {
            return None;
        }
        let exponent = xy / xx;
        let left = sum(&|x, y| (y - exponent * x).powi(2));
        let r_squared = (logs.len() > 2 && yy > 0.0).then(|| 1.0 - left / yy);
        Some(Self { coefficient: (mean_y - exponent * mean_x).exp(), exponent, r_squared, points: logs.len() })
    }

    /// The law's `y` at a place.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        self.coefficient * x.powf(self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_lowers_the_share_that_is_explained() {
        let law = PowerLaw::fit(&[(1.0, 3.0), (2.0, 2.0), (4.0, 2.0), (8.0, 1.0)]).expect("a law");
        let share = law.r_squared.expect("four points");
        assert!(law.exponent < 0.0 && (0.5..0.99).contains(&share), "{law:?}");
    }

    #[test]
    fn what_is_no_line_has_no_law() {
        assert_eq!(PowerLaw::fit(&[]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 2.0)]), None);
        assert_eq!(PowerLaw::fit(&[(3.0, 2.0), (3.0, 1.0)]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 2.0), (2.0, 0.0)]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 2.0), (f64::NAN, 1.0)]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 2.0), (2.0, 1.0)]).expect("a line").r_squared, None);
    }
}
