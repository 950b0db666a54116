//! The pictures, as SVG.

use super::Traced;
use crate::Failure;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;

/// The decay of every layer's channels in order: one line a layer, from blue (first) to red (last).
pub(super) fn decays(decays: &[Vec<f64>]) -> Result<String, Failure> {
    let channels = decays.iter().map(Vec::len).max().unwrap_or(1).max(2);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 560)).into_drawing_area();
        area.fill(&WHITE).map_err(say)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Decay per token, channels in order", ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..(channels - 1) as f64, 0.0..1.0)
            .map_err(say)?;
        chart
            .configure_mesh()
            .x_desc("channel")
            .y_desc("share that is left after one token, exp(−exp(time_decay))")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(say)?;
        let last = (decays.len() - 1).max(1);
        for (layer, of_layer) in decays.iter().enumerate() {
            let colour = HSLColor(0.66 * (1.0 - layer as f64 / last as f64), 0.75, 0.45);
            let points = of_layer.iter().enumerate().map(|(i, decay)| (i as f64, *decay));
            let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(say)?;
            // A dozen lines have room in the legend; of more, the first and the last say what the colours mean.
            if decays.len() <= 12 || layer == 0 || layer == last {
                series
                    .label(format!("layer {layer}"))
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(say)?;
        area.present().map_err(say)?;
    }
    Ok(svg)
}

/// Layer against token: the darker, the more of the lost probability comes back from there.
pub(super) fn trace(traced: &Traced) -> Result<String, Failure> {
    let Traced { tokens, target, trace, .. } = traced;
    let (count, layers) = (tokens.len(), trace.restored.len());
    let lost = (trace.clean - trace.corrupted).abs().max(f64::MIN_POSITIVE);
    let size = (160 + 44 * layers.max(8) as u32, 140 + 22 * count as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(say)?;
        let title = format!("Prediction {target:?}: {:.3}, with noise {:.3}", trace.clean, trace.corrupted);
        let label = |i: f64| {
            let i = i.floor() as usize;
            let mark = if trace.corrupt.contains(&i) { "* " } else { "" };
            // Leading and trailing blanks would be invisible.
            tokens
                .get(i)
                .map_or_else(String::new, |token| format!("{mark}{}", token.replace(' ', "␣").replace('\n', "⏎")))
        };
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(110)
            .build_cartesian_2d(0.0..layers as f64, (count as f64)..0.0)
            .map_err(say)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("layer whose output is put back (tokens with noise are starred)")
            .x_labels(0)
            .y_labels(0)
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(say)?;
        let cells = (0..layers).flat_map(|l| (0..count).map(move |t| (l, t))).map(|(l, t)| {
            let share = (trace.restored[l][t] / lost).clamp(0.0, 1.0);
            let shade = |full: f64| (255.0 - share * (255.0 - full)) as u8;
            let colour = RGBColor(shade(90.0), shade(20.0), shade(120.0));
            Rectangle::new([(l as f64, t as f64), (l as f64 + 1.0, t as f64 + 1.0)], colour.filled())
        });
        chart.draw_series(cells).map_err(say)?;
        let style = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Right, VPos::Center));
        let below = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
        for l in (0..layers).step_by(layers.div_ceil(20)) {
            let (x, y) = chart.backend_coord(&(l as f64 + 0.5, count as f64));
            area.draw(&Text::new(l.to_string(), (x, y + 6), below.clone())).map_err(say)?;
        }
        for t in 0..count {
            let (x, y) = chart.backend_coord(&(0.0, t as f64 + 0.5));
            area.draw(&Text::new(label(t as f64), (x - 6, y), style.clone())).map_err(say)?;
        }
        area.present().map_err(say)?;
    }
    Ok(svg)
}

fn say(error: impl Display) -> Failure {
    Failure(format!("cannot draw the plot: {error}"))
}
