use serde::{Deserialize, Serialize};

use super::scale::{Scale, drawable};
use super::svg::{Plot, escape};

/// A line chart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// What runs from left to right.
    pub x_label: String,
    /// What runs upwards.
    pub y_label: String,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// One line of a [`Chart`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// `(x, y)` with `x` ascending; points that are not finite are not drawn.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A line through these points.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }
}

/// More points than this are averaged in equal groups: a line of a thousand pixels cannot show more.
const MOST_POINTS: usize = 200;
/// Up to this many points are drawn as dots on the line.
const MOST_DOTS: usize = 25;

impl Chart {
    /// A chart without lines.
    #[must_use]
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), series: Vec::new() }
    }

    /// Adds a line. Beyond eight, colours repeat with dashes.
    #[must_use]
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The chart's `<svg>`, or `None` if there is not one point to draw.
    pub(super) fn svg(&self) -> Option<String> {
        let lines: Vec<Vec<(f64, f64)>> = self.series.iter().map(|series| thinned(&series.points)).collect();
        let all = || lines.iter().flatten();
        let x = Scale::around(all().map(|point| point.0), 0.0)?;
        let y = Scale::around(all().map(|point| point.1), 0.04)?;
        let mut plot = Plot::new(560.0, 280.0, x, y);
        plot.axes(&self.x_label, &self.y_label);
        for (index, (series, points)) in self.series.iter().zip(&lines).enumerate() {
            plot.line(index, points);
            for &(at, value) in points {
                let tooltip = format!("{}\n{} {}: {}", series.name, self.x_label, plot.x.label(at), significant(value));
                plot.dot(index, (at, value), points.len() <= MOST_DOTS, &escape(&tooltip));
            }
        }
        Some(plot.finish(&self.title))
    }
}

/// Four significant digits.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..=6).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    format!("{value:.digits$}", digits = (3 - magnitude).max(0) as usize)
}

/// The points that can be drawn; too many of them are averaged in groups of equal size.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| drawable(*x) && drawable(*y)).collect();
    let size = finite.len().div_ceil(MOST_POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let n = group.len() as f64;
        (group.iter().map(|p| p.0 / n).sum(), group.iter().map(|p| p.1 / n).sum())
    };
    finite.chunks(size).map(mean).collect()
}
