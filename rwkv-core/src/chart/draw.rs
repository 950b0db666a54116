//! From a chart to its SVG.

use super::axis::Axis;
use super::look::{GREY, Look, Marks};
use super::{Chart, ChartError, Interval, Series};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The axes with their names; a legend beside or below them adds to it.
const PLOT: (u32, u32) = (900, 520);
const MARGIN: u32 = 16;
/// Longer labels than this, in characters, put the legend below the picture.
const BESIDE: usize = 28;
const TEXT: u32 = 15;
const TICK_TEXT: u32 = 14;
const ROW: u32 = 20;
/// The sample of a line in the legend, with its gap.
const SAMPLE: u32 = 32;
/// Fewer points than this are marked.
const MARKED: usize = 60;
const FAINT: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The picture of a chart.
pub(super) fn svg(chart: &Chart) -> Result<String, ChartError> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let intervals = || chart.series.iter().flat_map(|series| series.band.iter().chain(&series.bars));
    // Markers at the ends of the axis would stick out; lines that begin there look right.
    let margin = if chart.series.iter().all(|series| series.look.has_line()) { 0.0 } else { 0.04 };
    let xs = points().map(|point| point.0).chain(intervals().map(|interval| interval.x));
    let x = match chart.categories.len() {
        0 => Axis::around(xs, chart.x_scale, margin),
        count => Some(Axis::of_categories(count)),
    };
    let ys = points().map(|point| point.1).chain(intervals().flat_map(|interval| [interval.low, interval.high]));
    let (Some(x), Some(y)) = (x, Axis::around(ys, chart.y_scale, 0.05)) else {
        return Err(ChartError::Empty { log: chart.x_scale.is_log() || chart.y_scale.is_log() });
    };
    let longest = chart.legend.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0);
    let rows = chart.legend.len() as u32;
    let beside = longest <= BESIDE;
    let (width, height) = match beside {
        true if rows == 0 => PLOT,
        true => (PLOT.0 + SAMPLE + width(longest, TEXT) + MARGIN, PLOT.1.max(rows * ROW + 4 * MARGIN)),
        false => (PLOT.0, PLOT.1 + rows * ROW + MARGIN),
    };
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    let drawn = draw(chart, &area, (x, y), beside);
    drawn.map_err(|error| ChartError::Draw(error.to_string()))?;
    area.present().map_err(|error| ChartError::Draw(error.to_string()))?;
    drop(area);
    Ok(svg)
}

fn draw(chart: &Chart, area: &Area<'_>, (x, y): (Axis, Axis), beside: bool) -> Outcome {
    area.fill(&WHITE)?;
    let (whole, height) = area.dim_in_pixel();
    let (plot, legend) = if beside {
        area.split_horizontally(PLOT.0)
    } else {
        area.split_vertically(height - chart.legend.len() as u32 * ROW - MARGIN)
    };
    let mut top = MARGIN;
    if !chart.title.is_empty() {
        let size = 20;
        let style = text(size, HPos::Center, VPos::Top);
        plot.draw_text(&fit(&chart.title, size, PLOT.0 - 2 * MARGIN), &style, (PLOT.0 as i32 / 2, 12))?;
        top += 28;
    }
    let left = 34 + width(y.longest_name(), TICK_TEXT);
    let stagger = stagger(&chart.categories, PLOT.0 - left - 3 * MARGIN);
    let mut axes = ChartBuilder::on(&plot)
        .margin_top(top)
        .margin_left(MARGIN)
        .margin_right(MARGIN + 12) // half of the last tick's name
        .margin_bottom(MARGIN / 2)
        .x_label_area_size(44 + 16 * (stagger.max(1) - 1))
        .y_label_area_size(left)
        .build_cartesian_2d(x.clone(), y.clone())?;
    axes.configure_mesh()
        .x_desc(clean(&chart.x_name))
        .y_desc(clean(&chart.y_name))
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .axis_style(GREY)
        .label_style(("sans-serif", TICK_TEXT))
        .axis_desc_style(("sans-serif", TEXT))
        .draw()?;
    let bottom = axes.backend_coord(&(x.within(0.0), y.within(f64::NEG_INFINITY))).1;
    for (i, name) in chart.categories.iter().enumerate() {
        let row = if stagger == 0 { 0 } else { i as u32 % stagger };
        let place = (axes.backend_coord(&(i as f64, y.within(0.0))).0, bottom + 7 + (16 * row) as i32);
        area.draw_text(&clean(name), &text(TICK_TEXT, HPos::Center, VPos::Top), place)?;
    }
    for series in &chart.series {
        draw_band(&mut axes, (&x, &y), series)?;
    }
    // Pale lines first: bold ones are never hidden.
    for bold in [false, true] {
        for series in chart.series.iter().filter(|series| series.look.bold == bold) {
            draw_series(&mut axes, area, (&x, &y), series)?;
        }
    }
    let (left, top) = if beside { (0, top as i32 + 4) } else { (4 * MARGIN as i32, 0) };
    let room = if beside { whole - PLOT.0 } else { whole - 5 * MARGIN };
    for (row, entry) in chart.legend.iter().enumerate() {
        let middle = top + ROW as i32 / 2 + (row as u32 * ROW) as i32;
        draw_sample(&legend, entry.look, (left, middle))?;
        let label = fit(&entry.label, TEXT, room - SAMPLE);
        legend.draw_text(&label, &text(TEXT, HPos::Left, VPos::Center), (left + SAMPLE as i32, middle))?;
    }
    Ok(())
}

fn draw_band(axes: &mut Axes<'_, '_>, (x, y): (&Axis, &Axis), series: &Series) -> Outcome {
    let band: Vec<&Interval> = series.band.iter().filter(|interval| x.holds(interval.x)).collect();
    if band.len() > 1 {
        let below = band.iter().map(|interval| (interval.x, y.within(interval.low)));
        let above = band.iter().rev().map(|interval| (interval.x, y.within(interval.high)));
        let outline: Vec<_> = below.chain(above).collect();
        axes.draw_series([Polygon::new(outline, series.look.shade())])?;
    }
    Ok(())
}

fn draw_series(axes: &mut Axes<'_, '_>, area: &Area<'_>, (x, y): (&Axis, &Axis), series: &Series) -> Outcome {
    let look = series.look;
    let pixels = axes.plotting_area().dim_in_pixel().0 as f64;
    let points: Vec<_> = series.points.iter().copied().filter(|p| x.holds(p.0) && y.holds(p.1)).collect();
    for bar in series.bars.iter().filter(|bar| x.holds(bar.x)) {
        let [low, high] = [bar.low, bar.high].map(|end| axes.backend_coord(&(bar.x, y.within(end))));
        let cap = |(x, y): (i32, i32)| [(x - 5, y), (x + 5, y)];
        for line in [[low, high], cap(low), cap(high)] {
            area.draw(&PathElement::new(line, look.colour().stroke_width(1)))?;
        }
    }
    if look.has_line() {
        let points = thin_out(points.clone(), |point| (x.place(point.0) * pixels) as i64);
        match look.dashes() {
            None => axes.draw_series(LineSeries::new(points, look.stroke()))?,
            Some((dash, gap)) => axes.draw_series(DashedLineSeries::new(points, dash, gap, look.stroke()))?,
        };
    }
    let marked = match look.marks {
        Marks::Line => false,
        Marks::Points | Marks::Both => true,
        Marks::Auto => points.len() < if look.bold { MARKED } else { 2 },
    };
    for point in points.iter().filter(|_| marked) {
        area.draw(&Polygon::new(look.marker(axes.backend_coord(point)), look.fill()))?;
    }
    Ok(())
}

/// What stands before a label of the legend.
fn draw_sample(legend: &Area<'_>, look: Look, (left, middle): (i32, i32)) -> Outcome {
    let length = SAMPLE as i32 - 8;
    let ends = [(left, middle), (left + length, middle)];
    if look.has_line() {
        match look.dashes() {
            None => legend.draw(&PathElement::new(ends, look.stroke()))?,
            Some((dash, gap)) => {
                for line in DashedLineSeries::new(ends, dash, gap, look.stroke()) {
                    legend.draw(&line)?;
                }
            }
        }
    }
    if matches!(look.marks, Marks::Points | Marks::Both) {
        legend.draw(&Polygon::new(look.marker((left + length / 2, middle)), look.fill()))?;
    }
    Ok(())
}

/// Over how many rows names of categories are spread, so that neighbours do not touch; none without names.
fn stagger(names: &[String], pixels: u32) -> u32 {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    // Names are a little wider than the estimate where they have many round letters.
    let needed = names.len() as u32 * (width(longest, TICK_TEXT) + 14);
    if longest == 0 { 0 } else { needed.div_ceil(pixels) }
}

fn text(size: u32, across: HPos, down: VPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&BLACK).pos(Pos::new(across, down))
}

/// Pixels that so many characters take at most in most fonts: an SVG is drawn with the reader's own.
fn width(characters: usize, size: u32) -> u32 {
    (characters as f64 * f64::from(size) * 0.5).ceil() as u32
}

/// The text, with its middle left out where it does not fit.
fn fit(text: &str, size: u32, pixels: u32) -> String {
    let text = &clean(text);
    let (count, most) = (text.chars().count(), (pixels / width(1, size)).max(3) as usize);
    if count <= most {
        return text.clone();
    }
    let (head, tail) = (most / 2, most - most / 2 - 1);
    let skip = count - tail;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(skip)).collect()
}

/// The text without control characters, which no SVG may hold.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
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

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn a_series_has_what_its_looks_say() {
        let points = vec![(1.0, 2.0), (2.0, 4.0), (3.0, 3.0)];
        let drawn = |marks| {
            let look = Look { marks, ..Look::bold(1) };
            let svg = Chart { series: vec![Series::new(points.clone(), look)], ..Chart::default() }.svg();
            let svg = svg.expect("a picture");
            // The colour of number 1 is nowhere else.
            let of = |element: &str| svg.split(element).skip(1).filter(|rest| within(rest).contains("D55E00")).count();
            (of("<polyline"), of("<polygon"))
        };
        fn within(rest: &str) -> &str {
            rest.split_once('>').map_or(rest, |(tag, _)| tag)
        }
        assert_eq!(drawn(Marks::Auto), (1, 3));
        assert_eq!(drawn(Marks::Line), (1, 0));
        assert_eq!(drawn(Marks::Points), (0, 3));
        assert_eq!(drawn(Marks::Both), (1, 3));
    }

    #[test]
    fn bands_and_bars_are_drawn_within_the_axes() {
        let points = vec![(1.0, 2.0), (10.0, 4.0)];
        let around = |error: f64| points.iter().map(|point| Interval::around(*point, error)).collect::<Vec<_>>();
        // An error larger than the value has no logarithm.
        let series = Series { band: around(3.0), bars: around(0.5), ..Series::new(points.clone(), Look::line(0)) };
        let chart = Chart { x_scale: crate::chart::Scale::Log, y_scale: crate::chart::Scale::Log, ..Chart::default() };
        let svg = Chart { series: vec![series], ..chart }.svg().expect("a picture");
        assert_eq!(count(&svg, "<polygon"), 1, "the band: {svg}");
        assert_eq!(count(&svg, "opacity=\"0.18\""), 1, "which is pale: {svg}");
        // Whiskers of two bars and their caps, and the line itself.
        assert_eq!(count(&svg, "stroke=\"#0072B2\""), 7, "{svg}");
        for place in svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let inside = |number: &str| number.parse::<u32>().is_ok_and(|number| number <= PLOT.0);
            assert!(
                place.split([' ', ',']).filter(|part| !part.is_empty()).all(inside),
                "outside the picture: {place}"
            );
        }
    }

    #[test]
    fn categories_are_named_and_escaped() {
        let mut chart = Chart { categories: vec!["a<b".into(), "second".into()], ..Chart::default() };
        chart.add("x & y", Series::new(vec![(0.0, 0.5), (1.0, 0.7)], Look::points(2)));
        let svg = chart.svg().expect("a picture");
        for text in ["a&lt;b", "second", "x &amp; y"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let names: Vec<String> = (0..12).map(|i| format!("lambada_openai_{i}")).collect();
        assert_eq!((stagger(&names, 800), stagger(&names[..3], 800), stagger(&[], 800)), (2, 1, 0));
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        let mut chart = Chart::default();
        assert_eq!(chart.svg(), Err(ChartError::Empty { log: false }));
        chart.add("zero", Series::new(vec![(0.0, 1.0)], Look::bold(0)));
        assert!(chart.svg().is_ok());
        chart.x_scale = crate::chart::Scale::Log2;
        assert_eq!(chart.svg(), Err(ChartError::Empty { log: true }));
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(fit("short", 15, 200), "short");
        let fitted = fit(&"0123456789".repeat(20), 15, 120);
        assert!(fitted.starts_with("0123") && fitted.ends_with("6789") && fitted.chars().count() == 15, "{fitted}");
    }
}
