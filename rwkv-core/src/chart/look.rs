//! Colours, dashes and markers: what tells series apart.

use plotters::prelude::*;

/// Okabe and Ito's colours, which people with any kind of colour vision tell apart, without their yellow.
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Dashes of the second and third round through the colours: length of a dash and of the gap.
const DASHES: [(u32, u32); 2] = [(8, 5), (2, 4)];
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
/// How far a marker reaches from its middle, in pixels.
const REACH: i32 = 4;
/// How much of a band's colour covers what is behind it.
const BAND: f64 = 0.18;

/// Whether points are joined, marked or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marks {
    /// Joined, and marked where they are few enough to be told apart.
    #[default]
    Auto,
    /// Joined only: a fit.
    Line,
    /// Marked only: measurements.
    Points,
    /// Joined and marked.
    Both,
}

/// How a series looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Which colour and marker, and from the eighth on which dashes; grey without one.
    pub number: Option<usize>,
    /// Thick, or thin and pale.
    pub bold: bool,
    /// Line, points or both.
    pub marks: Marks,
}

impl Look {
    /// A thick line with [`Marks::Auto`].
    #[must_use]
    pub fn bold(number: usize) -> Self {
        Self { number: Some(number), bold: true, marks: Marks::Auto }
    }

    /// A thin, pale line.
    #[must_use]
    pub fn pale(number: usize) -> Self {
        Self { bold: false, ..Self::bold(number) }
    }

    /// A thick line without markers.
    #[must_use]
    pub fn line(number: usize) -> Self {
        Self { marks: Marks::Line, ..Self::bold(number) }
    }

    /// Markers without a line.
    #[must_use]
    pub fn points(number: usize) -> Self {
        Self { marks: Marks::Points, ..Self::bold(number) }
    }

    /// A thick line with markers.
    #[must_use]
    pub fn both(number: usize) -> Self {
        Self { marks: Marks::Both, ..Self::bold(number) }
    }

    pub(super) fn has_line(self) -> bool {
        self.marks != Marks::Points
    }

    pub(super) fn colour(self) -> RGBColor {
        self.number.map_or(GREY, |number| COLOURS[number % COLOURS.len()])
    }

    pub(super) fn stroke(self) -> ShapeStyle {
        if self.bold { self.colour().stroke_width(2) } else { self.colour().mix(0.6).stroke_width(1) }
    }

    pub(super) fn fill(self) -> ShapeStyle {
        if self.bold { self.colour().filled() } else { self.colour().mix(0.6).filled() }
    }

    pub(super) fn shade(self) -> ShapeStyle {
        self.colour().mix(BAND).filled()
    }

    pub(super) fn dashes(self) -> Option<(u32, u32)> {
        (self.number? / COLOURS.len()).checked_sub(1).map(|round| DASHES[round % DASHES.len()])
    }

    /// The outline of the marker around a place, in pixels. Eight shapes with seven colours: a series has both in common
    /// with another only fifty-six series later.
    pub(super) fn marker(self, (x, y): (i32, i32)) -> Vec<(i32, i32)> {
        let r = REACH;
        let outline: Vec<(i32, i32)> = match self.number.unwrap_or(0) % 8 {
            // A circle, as nearly as whole pixels can tell.
            0 => vec![(-4, -2), (-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2)],
            1 => vec![(-r, -r), (r, -r), (r, r), (-r, r)],
            2 => vec![(0, -r - 1), (r + 1, r), (-r - 1, r)],
            3 => vec![(0, -r - 2), (r + 2, 0), (0, r + 2), (-r - 2, 0)],
            4 => vec![(0, r + 1), (r + 1, -r), (-r - 1, -r)],
            5 => plus(1, r + 2),
            6 => vec![(-r - 1, 0), (r, r + 1), (r, -r - 1)],
            _ => cross(r + 1),
        };
        outline.into_iter().map(|(across, down)| (x + across, y + down)).collect()
    }
}

fn plus(half: i32, r: i32) -> Vec<(i32, i32)> {
    turned([(-half, -r), (half, -r), (half, -half)])
}

fn cross(r: i32) -> Vec<(i32, i32)> {
    turned([(-r, 2 - r), (2 - r, -r), (0, -2)])
}

/// An arm and its three turns by a quarter.
fn turned(arm: [(i32, i32); 3]) -> Vec<(i32, i32)> {
    let turn = |(x, y): (i32, i32)| (-y, x);
    let once = arm.map(turn);
    let twice = once.map(turn);
    [arm, once, twice, twice.map(turn)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_looks_different_for_three_rounds_of_colours() {
        let looks: std::collections::HashSet<_> =
            (0..21).map(|number| (Look::bold(number).colour().rgb(), Look::bold(number).dashes())).collect();
        assert_eq!(looks.len(), 21);
    }

    #[test]
    fn every_series_of_points_looks_different() {
        let looks: std::collections::HashSet<_> =
            (0..56).map(|number| (Look::points(number).colour().rgb(), Look::points(number).marker((0, 0)))).collect();
        assert_eq!(looks.len(), 56);
        let shapes: std::collections::HashSet<_> = (0..8).map(|number| Look::points(number).marker((9, 9))).collect();
        assert_eq!(shapes.len(), 8);
    }
}
