//! Pictures of a measurement: SVG, text as text, colors that the color-blind tell apart.

use plotters::{
    coord::{Shift, combinators::LogCoord},
    prelude::*,
};

use crate::{Error, Point};

/// What is drawn against the temperature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The trace of the covariance, beside the laws of powers.
    Variance,
    /// The relative bias.
    Bias,
    /// The mean squared error, its minimum marked.
    Error,
}

/// Okabe and Ito's palette, without its yellow and black.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
const GREY: RGBColor = RGBColor(110, 110, 110);
const SIZE: (u32, u32) = (860, 520);

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

impl Quantity {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Variance, Self::Bias, Self::Error];

    /// A file's name without extension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Variance => "variance",
            Self::Bias => "bias",
            Self::Error => "error",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Variance => "Variance of the gradient",
            Self::Bias => "Relative bias (ringed: within two standard errors of none)",
            Self::Error => "Mean squared error of one gradient",
        }
    }

    fn of(self, point: &Point) -> f64 {
        match self {
            Self::Variance => point.variance,
            Self::Bias => point.bias,
            Self::Error => point.mse,
        }
    }
}

/// Draws `quantity` over `τ`, both axes logarithmic; `series` holds one estimator's points each, `caption` says what was
/// measured.
///
/// # Errors
/// There is nothing above zero to draw, or the backend fails.
pub fn draw(series: &[&[Point]], quantity: Quantity, caption: &str) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        fill(&root, series, quantity, caption).map_err(Error::Plot)?;
    }
    Ok(svg)
}

fn fill(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    series: &[&[Point]],
    quantity: Quantity,
    caption: &str,
) -> Result<(), String> {
    root.fill(&WHITE).map_err(words)?;
    let all = || series.iter().flat_map(|points| points.iter());
    let values = || all().map(|point| quantity.of(point)).filter(|value| visible(*value));
    let (x, y) = (span(all().map(|p| p.tau))?, span(values())?);
    let (x, y) = (x.0 * 0.9..x.1 * 1.1, y.0 * 0.5..y.1 * 2.0);
    let mut chart = ChartBuilder::on(root)
        .caption(format!("{}: {caption}", quantity.title()), ("sans-serif", 17))
        .margin(14)
        .margin_right(150)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())
        .map_err(words)?;
    chart
        .configure_mesh()
        .x_desc("temperature τ")
        .y_desc(quantity.name())
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(220, 220, 220))
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| power(*y))
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(words)?;
    if quantity == Quantity::Variance {
        laws(&mut chart, series, (x.start, x.end), (y.start, y.end))?;
    }
    for (index, points) in series.iter().enumerate() {
        line(&mut chart, points, quantity, index)?;
    }
    labels(root, &chart, series, quantity)?;
    root.present().map_err(words)
}

fn line(chart: &mut Chart<'_, '_>, points: &[Point], quantity: Quantity, index: usize) -> Result<(), String> {
    let color = COLORS[index % COLORS.len()];
    let seen: Vec<&Point> = points.iter().filter(|p| visible(quantity.of(p))).collect();
    let places: Vec<(f64, f64)> = seen.iter().map(|p| (p.tau, quantity.of(p))).collect();
    chart.draw_series(LineSeries::new(places.clone(), color.stroke_width(2))).map_err(words)?;
    for (point, &place) in seen.iter().zip(&places) {
        let ringed = quantity == Quantity::Bias && point.bias < 2.0 * point.standard_error;
        let style = if ringed { WHITE.filled() } else { color.filled() };
        let rim = color.stroke_width(2);
        match index % 3 {
            0 => chart.draw_series([Circle::new(place, 4, style)]).map(drop),
            1 => chart.draw_series([TriangleMarker::new(place, 6, style)]).map(drop),
            _ => chart.draw_series([Cross::new(place, 4, rim)]).map(drop),
        }
        .map_err(words)?;
        if ringed {
            chart.draw_series([Circle::new(place, 5, rim)]).map_err(words)?;
        }
    }
    if quantity == Quantity::Error
        && let Some(best) = places.iter().min_by(|a, b| a.1.total_cmp(&b.1))
    {
        chart.draw_series([Circle::new(*best, 8, color.stroke_width(2))]).map_err(words)?;
    }
    Ok(())
}

/// Dashed lines of slope −1, −2 and −4 through the first series' coldest point.
fn laws(
    chart: &mut Chart<'_, '_>,
    series: &[&[Point]],
    (from, to): (f64, f64),
    (low, high): (f64, f64),
) -> Result<(), String> {
    let Some(anchor) = series.first().and_then(|points| points.iter().find(|p| visible(p.variance))) else {
        return Ok(());
    };
    for (slope, word) in [(-1, "τ⁻¹"), (-2, "τ⁻²"), (-4, "τ⁻⁴")] {
        let at = |tau: f64| anchor.variance * (tau / anchor.tau).powi(slope);
        let taus = (0..=200).map(|i| from * (to / from).powf(f64::from(i) / 200.0));
        let places: Vec<(f64, f64)> =
            taus.map(|tau| (tau, at(tau))).filter(|(_, y)| *y > low && *y < high).collect();
        let near_end = places.get(places.len() * 9 / 10).copied();
        chart.draw_series(DashedLineSeries::new(places, 5, 4, GREY.stroke_width(1))).map_err(words)?;
        if let Some(end) = near_end {
            let style = ("sans-serif", 14).into_font().color(&GREY);
            let place = (end.0 * (to / from).powf(0.012), end.1 * (high / low).powf(0.04)); // right of it and above
            chart.draw_series([Text::new(word, place, style)]).map_err(words)?;
        }
    }
    Ok(())
}

/// Names at the right end of their lines, moved apart where they would touch.
fn labels(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    chart: &Chart<'_, '_>,
    series: &[&[Point]],
    quantity: Quantity,
) -> Result<(), String> {
    const STEP: i32 = 17;
    let mut ends: Vec<(i32, usize)> = Vec::new();
    for (index, points) in series.iter().enumerate() {
        if let Some(last) = points.iter().rev().find(|p| visible(quantity.of(p))) {
            ends.push((chart.backend_coord(&(last.tau, quantity.of(last))).1, index));
        }
    }
    ends.sort_unstable();
    for i in 1..ends.len() {
        ends[i].0 = ends[i].0.max(ends[i - 1].0 + STEP);
    }
    let surplus = ends.last().map_or(0, |end| (end.0 - (SIZE.1 as i32 - 30)).max(0));
    for (y, index) in ends {
        let color = COLORS[index % COLORS.len()];
        let style = ("sans-serif", 14).into_font().color(&color);
        let name = series[index].first().map_or("", |p| p.estimator.as_str());
        root.draw(&Text::new(name, (SIZE.0 as i32 - 140, y - 8 - surplus), style)).map_err(words)?;
    }
    Ok(())
}

/// Zeros have no place on a logarithmic axis, nor has what is rounding.
fn visible(value: f64) -> bool {
    value.is_finite() && value > 1e-20
}

fn span(values: impl Iterator<Item = f64>) -> Result<(f64, f64), String> {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    if low.is_finite() { Ok((low, high)) } else { Err("no value above zero".into()) }
}

fn power(y: f64) -> String {
    // Ticks are powers of ten up to rounding, such as 9.99e-5.
    if (0.9e-3..1e4).contains(&y) { format!("{}", (y * 1e6).round() / 1e6) } else { format!("{y:.0e}") }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
