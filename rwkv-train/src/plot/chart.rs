//! Lines on two axes with a legend outside them, as SVG.

use super::axis::Axis;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The axes with their names; a legend beside or below them adds to it.
const PLOT: (u32, u32) = (900, 520);
const MARGIN: u32 = 16;
/// Longer labels than this, in characters, put the legend below the picture.
const BESIDE: usize = 28;
const TEXT: u32 = 15;
const ROW: u32 = 20;
/// The sample of a line in the legend, with its gap.
const SAMPLE: u32 = 32;
/// Fewer points than this are marked with dots.
const MARKED: usize = 60;

/// Okabe and Ito's colours, which people with any kind of colour vision tell apart, without their yellow.
const COLOURS: [RGBColor; 7] = [
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
const GREY: RGBColor = RGBColor(110, 110, 110);

/// A line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Points, from left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// Which colour, and from the eighth on which dashes.
    pub(super) number: usize,
    /// Bold and with dots, or thin and pale.
    pub(super) bold: bool,
}

/// An entry of the legend.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// What the line is called.
    pub(super) label: String,
    /// The line's number; grey without one.
    pub(super) number: Option<usize>,
    /// Whether the line is bold.
    pub(super) bold: bool,
}

/// A picture of lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_name: String,
    pub(super) y_name: String,
    pub(super) log_x: bool,
    pub(super) log_y: bool,
    pub(super) lines: Vec<Line>,
    pub(super) legend: Vec<Entry>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    /// The picture.
    ///
    /// # Errors
    /// A sentence without the file's name, when no point has a place on the axes.
    pub(super) fn svg(&self) -> Result<String, String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::around(points().map(|point| point.0), self.log_x, 0.0);
        let y = Axis::around(points().map(|point| point.1), self.log_y, 0.05);
        let (Some(x), Some(y)) = (x, y) else {
            let log = if self.log_x || self.log_y { ", which a logarithmic axis needs" } else { "" };
            let what = if log.is_empty() { "a finite number" } else { "positive" };
            return Err(format!("no value is {what}{log}"));
        };
        let longest = self.legend.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0);
        let rows = self.legend.len() as u32;
        let beside = longest <= BESIDE;
        let (width, height) = match beside {
            true => (PLOT.0 + SAMPLE + width(longest, TEXT) + MARGIN, PLOT.1.max(rows * ROW + 4 * MARGIN)),
            false => (PLOT.0, PLOT.1 + rows * ROW + MARGIN),
        };
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        self.draw(&area, (x, y), beside).map_err(|error| error.to_string())?;
        area.present().map_err(|error| error.to_string())?;
        drop(area);
        Ok(svg)
    }

    fn draw(&self, area: &Area<'_>, (x, y): (Axis, Axis), beside: bool) -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let (whole, height) = area.dim_in_pixel();
        let (plot, legend) = if beside {
            area.split_horizontally(PLOT.0)
        } else {
            area.split_vertically(height - self.legend.len() as u32 * ROW - MARGIN)
        };
        let mut top = MARGIN;
        if !self.title.is_empty() {
            let size = 20;
            let style = text(size, HPos::Center, VPos::Top);
            plot.draw_text(&fit(&self.title, size, PLOT.0 - 2 * MARGIN), &style, (PLOT.0 as i32 / 2, 12))?;
            top += 28;
        }
        let mut context = ChartBuilder::on(&plot)
            .margin_top(top)
            .margin_left(MARGIN)
            .margin_right(MARGIN + 12) // half of the last tick's name
            .margin_bottom(MARGIN / 2)
            .x_label_area_size(44)
            .y_label_area_size(34 + width(y.longest_name(), 14))
            .build_cartesian_2d(x.clone(), y.clone())?;
        let faint = RGBColor(225, 225, 225);
        context
            .configure_mesh()
            .x_desc(&self.x_name)
            .y_desc(&self.y_name)
            .bold_line_style(faint)
            .light_line_style(WHITE)
            .axis_style(GREY)
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 15))
            .draw()?;
        let pixels = context.plotting_area().dim_in_pixel().0 as usize;
        // Pale lines first: bold ones are never hidden.
        for bold in [false, true] {
            for line in self.lines.iter().filter(|line| line.bold == bold) {
                let points: Vec<_> = line.points.iter().copied().filter(|p| x.holds(p.0) && y.holds(p.1)).collect();
                let points = thin_out(points, |point| (x.place(point.0) * pixels as f64) as i64);
                let style = style(Some(line.number), bold);
                if points.len() < if bold { MARKED } else { 2 } {
                    let dots = points.iter().map(|point| Circle::new(*point, 3, style.color.filled()));
                    context.draw_series(dots)?;
                }
                match dashes(line.number) {
                    None => context.draw_series(LineSeries::new(points, style))?,
                    Some((dash, gap)) => context.draw_series(DashedLineSeries::new(points, dash, gap, style))?,
                };
            }
        }
        let (left, top) = if beside { (0, top as i32 + 4) } else { (4 * MARGIN as i32, 0) };
        let room = if beside { whole - PLOT.0 } else { whole - 5 * MARGIN };
        for (row, entry) in self.legend.iter().enumerate() {
            let middle = top + ROW as i32 / 2 + (row as u32 * ROW) as i32;
            let ends = [(left, middle), (left + SAMPLE as i32 - 8, middle)];
            let style = style(entry.number, entry.bold);
            match entry.number.and_then(dashes) {
                None => legend.draw(&PathElement::new(ends, style))?,
                Some((dash, gap)) => {
                    for line in DashedLineSeries::new(ends, dash, gap, style) {
                        legend.draw(&line)?;
                    }
                }
            }
            let label = fit(&entry.label, TEXT, room - SAMPLE);
            legend.draw_text(&label, &text(TEXT, HPos::Left, VPos::Center), (left + SAMPLE as i32, middle))?;
        }
        Ok(())
    }
}

fn text(size: u32, across: HPos, down: VPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&BLACK).pos(Pos::new(across, down))
}

fn style(number: Option<usize>, bold: bool) -> ShapeStyle {
    let colour = number.map_or(GREY, |number| COLOURS[number % COLOURS.len()]);
    if bold { colour.stroke_width(2) } else { colour.mix(0.6).stroke_width(1) }
}

fn dashes(number: usize) -> Option<(u32, u32)> {
    (number / COLOURS.len()).checked_sub(1).map(|round| DASHES[round % DASHES.len()])
}

/// Pixels that so many characters take at most in most fonts: an SVG is drawn with the reader's own.
fn width(characters: usize, size: u32) -> u32 {
    (characters as f64 * f64::from(size) * 0.5).ceil() as u32
}

/// The text, with its middle left out where it does not fit.
fn fit(text: &str, size: u32, pixels: u32) -> String {
    let (count, most) = (text.chars().count(), (pixels / width(1, size)).max(3) as usize);
    if count <= most {
        return text.to_owned();
    }
    let (head, tail) = (most / 2, most - most / 2 - 1);
    let skip = count - tail;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(skip)).collect()
}

/// At most four points per pixel column, its first, lowest, highest and last, which look the same as all.
fn thin_out(points: Vec<(f64, f64)>, column: impl Fn(&(f64, f64)) -> i64) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        let by_height = |a: &&usize, b: &&usize| group[**a].1.total_cmp(&group[**b].1);
        let indices: Vec<usize> = (0..group.len()).collect();
        let mut keep = vec![0, group.len() - 1];
        keep.extend(indices.iter().min_by(by_height));
        keep.extend(indices.iter().max_by(by_height));
        keep.sort_unstable();
        keep.dedup();
        kept.extend(keep.into_iter().map(|i| group[i]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_looks_different_for_three_rounds_of_colours() {
        let looks: std::collections::HashSet<_> =
            (0..21).map(|number| (COLOURS[number % 7].rgb(), dashes(number))).collect();
        assert_eq!(looks.len(), 21);
    }

    #[test]
    fn thinning_keeps_the_ends_and_the_extremes() {
        let wave: Vec<_> = (0..10_000).map(|i| (f64::from(i), f64::from((i * 7919) % 1000))).collect();
        let kept = thin_out(wave.clone(), |point| (point.0 / 1000.0) as i64);
        assert!(kept.len() <= 40);
        assert_eq!((kept[0], kept[kept.len() - 1]), (wave[0], wave[9999]));
        assert!(kept.iter().any(|point| point.1 == 0.0) && kept.iter().any(|point| point.1 == 999.0));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let few: Vec<_> = wave[..5].to_vec();
        assert_eq!(thin_out(few.clone(), |point| point.0 as i64), few);
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(fit("short", 15, 200), "short");
        let fitted = fit(&"0123456789".repeat(20), 15, 120);
        assert!(fitted.starts_with("0123") && fitted.ends_with("6789") && fitted.chars().count() == 15, "{fitted}");
    }
}
