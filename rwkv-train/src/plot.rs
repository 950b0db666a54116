//! The loss over the steps, as a picture.

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use plotters::prelude::*;
use rwkv_core::files::write_atomic;
use std::path::Path;

const SIZE: (u32, u32) = (900, 520);

/// Draws training and validation loss against the step, as an SVG file.
///
/// # Errors
/// [`Error::Plot`] when there is nothing to draw, or what is wrong with the file.
pub fn plot_loss(rows: &[Metrics], title: &str, path: &Path) -> Result<()> {
    let mut svg = String::new();
    draw(rows, title, &mut svg).map_err(|problem| Error::Plot { path: path.to_owned(), problem })?;
    Ok(write_atomic(path, svg.as_bytes())?)
}

fn draw(rows: &[Metrics], title: &str, svg: &mut String) -> std::result::Result<(), String> {
    let train: Vec<(f64, f64)> = rows.iter().map(|row| (row.step as f64, row.loss)).collect();
    let val: Vec<(f64, f64)> = rows.iter().filter_map(|row| Some((row.step as f64, row.val_loss?))).collect();
    let last = train.last().ok_or("there are no rows of metrics")?.0;
    let losses = || train.iter().chain(&val).map(|point| point.1);
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(f64::NEG_INFINITY, f64::max));
    let margin = (0.05 * (high - low)).max(0.01);

    let say = |error: &dyn std::fmt::Display| error.to_string();
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| say(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..last, low - margin..high + margin)
        .map_err(|e| say(&e))?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss (nats per token)")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(|e| say(&e))?;
    let (blue, orange) = (RGBColor(31, 119, 180), RGBColor(214, 96, 20));
    chart
        .draw_series(LineSeries::new(train, blue.stroke_width(1)))
        .map_err(|e| say(&e))?
        .label("training")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], blue.stroke_width(2)));
    if !val.is_empty() {
        chart
            .draw_series(LineSeries::new(val.clone(), orange.stroke_width(2)))
            .map_err(|e| say(&e))?
            .label("held out")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], orange.stroke_width(2)));
        chart.draw_series(val.into_iter().map(|point| Circle::new(point, 3, orange.filled()))).map_err(|e| say(&e))?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(RGBColor(180, 180, 180))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(|e| say(&e))?;
    area.present().map_err(|e| say(&e))
}
