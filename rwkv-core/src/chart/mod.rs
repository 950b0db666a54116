//! Lines and points on two axes with a legend outside them, as SVG.
//!
//! A [`Chart`] is a value: put [`Series`] into it, then ask for the picture with [`Chart::svg`]. Colours are Okabe and
//! Ito's, which people with any kind of colour vision tell apart; markers and dashes tell series apart without colour.

mod axis;
mod draw;
mod look;

pub use look::{Look, Marks};

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// No point has a place on the axes.
    #[error("{}", if *log { "no value is positive, which a logarithmic axis needs" } else { "no value is a finite number" })]
    Empty {
        /// Whether an axis is logarithmic.
        log: bool,
    },
    /// The drawing library could not draw it.
    #[error("{0}")]
    Draw(String),
}

/// How numbers are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By their logarithm, with ticks at powers of ten, or at 1, 2 and 5 times those where the range is short.
    Log,
    /// By their logarithm, with ticks at powers of two: context lengths, widths.
    Log2,
}

impl Scale {
    /// [`Scale::Log`] or [`Scale::Linear`].
    #[must_use]
    pub fn log(log: bool) -> Self {
        if log { Self::Log } else { Self::Linear }
    }

    /// Whether only positive numbers have a place.
    #[must_use]
    pub fn is_log(self) -> bool {
        self != Self::Linear
    }
}

/// From where to where a value may lie, at one place of the x axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Where.
    pub x: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// `y ± error`.
    #[must_use]
    pub fn around((x, y): (f64, f64), error: f64) -> Self {
        Self { x, low: y - error, high: y + error }
    }
}

/// Points that belong together, and how they are drawn.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// From left to right, where a line joins them.
    pub points: Vec<(f64, f64)>,
    /// A shaded band, from left to right; none where it is empty.
    pub band: Vec<Interval>,
    /// Bars of error, in any order.
    pub bars: Vec<Interval>,
    /// The looks.
    pub look: Look,
}

impl Series {
    /// Points with neither band nor bars.
    #[must_use]
    pub fn new(points: Vec<(f64, f64)>, look: Look) -> Self {
        Self { points, look, ..Self::default() }
    }
}

/// An entry of the legend.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the series is called.
    pub label: String,
    /// Its looks.
    pub look: Look,
}

/// A picture of series.
///
/// # Example
/// ```
/// use rwkv_core::chart::{Chart, Interval, Look, Scale, Series};
/// let mut chart = Chart { x_name: "tokens".into(), y_name: "loss".into(), x_scale: Scale::Log2, ..Chart::default() };
/// let points = vec![(256.0, 3.1), (512.0, 2.8), (1024.0, 2.6)];
/// let band = points.iter().map(|point| Interval::around(*point, 0.1)).collect();
/// chart.add("mean of three seeds", Series { band, ..Series::new(points, Look::bold(0)) });
/// chart.add("fit", Series::new(vec![(256.0, 3.1), (1024.0, 2.6)], Look::line(1)));
/// chart.add("measured", Series::new(vec![(300.0, 3.0)], Look::points(2)));
/// assert!(chart.svg()?.starts_with("<svg"));
/// # Ok::<(), rwkv_core::chart::ChartError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// The title; none where it is empty.
    pub title: String,
    /// What the x axis is called.
    pub x_name: String,
    /// What the y axis is called.
    pub y_name: String,
    /// How numbers are spread over the x axis.
    pub x_scale: Scale,
    /// How numbers are spread over the y axis.
    pub y_scale: Scale,
    /// Names for 0, 1, 2, … on the x axis, which then has no other ticks; a plain axis where it is empty.
    pub categories: Vec<String>,
    /// What is drawn.
    pub series: Vec<Series>,
    /// The legend, from above.
    pub legend: Vec<Entry>,
}

impl Chart {
    /// Adds a series and its entry in the legend.
    pub fn add(&mut self, label: impl Into<String>, series: Series) {
        self.legend.push(Entry { label: label.into(), look: series.look });
        self.series.push(series);
    }

    /// The picture. Texts in it are escaped.
    ///
    /// # Errors
    /// [`ChartError::Empty`] when no point has a place on the axes.
    pub fn svg(&self) -> Result<String, ChartError> {
        draw::svg(self)
    }
}
