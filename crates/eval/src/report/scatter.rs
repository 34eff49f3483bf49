//! Two metrics of a front against each other.

use std::fmt::Write as _;

use super::chart::significant;
use super::front::FrontSection;
use super::scale::{Scale, drawable};
use super::svg::{Plot, escape};

/// Half the size of a number beside a point.
const LABEL: (f64, f64) = (8.0, 6.5);
const RADIUS: f64 = 5.5;

impl FrontSection {
    /// The scatter plot of the metrics `pair`, or `None` if there is not one point to draw. Points carry their number in
    /// the table.
    pub(super) fn scatter(&self, (a, b): (usize, usize)) -> Option<String> {
        let value = |index: usize, metric: usize| -> f64 {
            self.points[index].metrics.get(metric).copied().unwrap_or(f64::NAN)
        };
        let visible = |index: &usize| drawable(value(*index, a)) && drawable(value(*index, b));
        let drawn: Vec<usize> = (0..self.points.len()).filter(visible).collect();
        let x = Scale::around(drawn.iter().map(|&index| value(index, a)), 0.1)?;
        let y = Scale::around(drawn.iter().map(|&index| value(index, b)), 0.1)?;
        let up = (self.is_up(a), self.is_up(b));

        let mut plot = Plot::new(400.0, 340.0, x, y);
        plot.axes(&self.axis_label(a), &self.axis_label(b));
        let pairs: Vec<(f64, f64)> = drawn.iter().map(|&index| (value(index, a), value(index, b))).collect();
        plot.add(&stairs(&plot, &pairs, up));
        plot.add(&better_corner(&plot, up));

        let places: Vec<(f64, f64)> = pairs.iter().map(|&pair| plot.at(pair)).collect();
        let labels = label_places(&places, plot.inside());
        // Those on the front are drawn last, so that nothing hides them.
        let mut order: Vec<usize> = (0..drawn.len()).collect();
        order.sort_by_key(|&at| self.points[drawn[at]].on_front);
        for at in order {
            let point = &self.points[drawn[at]];
            let class = if point.on_front { "front" } else { "behind" };
            let ((cx, cy), (tx, ty)) = (places[at], labels[at]);
            let mut svg = String::new();
            let _ = write!(
                svg,
                "<g class=\"{class}\"><title>{}</title><circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{RADIUS}\"/>\
                 <text x=\"{tx:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
                escape(&self.tooltip(drawn[at])),
                ty + 4.0,
                drawn[at] + 1
            );
            plot.add(&svg);
        }
        Some(plot.finish(&format!("{} against {}", self.metric_name(b), self.metric_name(a))))
    }

    fn is_up(&self, metric: usize) -> bool {
        self.maximise.get(metric).copied().unwrap_or(true)
    }

    fn metric_name(&self, metric: usize) -> &str {
        self.metrics.get(metric).map_or("", String::as_str)
    }

    fn axis_label(&self, metric: usize) -> String {
        let direction = if self.is_up(metric) { "higher" } else { "lower" };
        format!("{} ({direction} is better)", self.metric_name(metric))
    }

    fn tooltip(&self, index: usize) -> String {
        let point = &self.points[index];
        let mut text = format!("{}. {}", index + 1, point.label);
        if point.on_front {
            text.push_str(" (on the front)");
        }
        for (name, weight) in &point.weights {
            let _ = write!(text, "\nweight {name}: {}", significant(*weight));
        }
        for (name, value) in self.metrics.iter().zip(&point.metrics) {
            let _ = write!(text, "\n{name}: {}", significant(*value));
        }
        text
    }
}

/// The edge of what the points dominate in these two metrics alone.
fn stairs(plot: &Plot, points: &[(f64, f64)], (x_up, y_up): (bool, bool)) -> String {
    let better = |up: bool, a: f64, b: f64| if up { a > b } else { a < b };
    // From the best x on, a point is part of the edge if its y beats all before it.
    let mut sorted = points.to_vec();
    sorted.sort_by(|p, q| {
        let (x, y) = (p.0.total_cmp(&q.0), p.1.total_cmp(&q.1));
        let x = if x_up { x.reverse() } else { x };
        x.then(if y_up { y.reverse() } else { y })
    });
    let mut edge: Vec<(f64, f64)> = Vec::new();
    for point in sorted {
        if edge.last().is_none_or(|last| better(y_up, point.1, last.1)) {
            edge.push(point);
        }
    }
    let mut path = String::new();
    for (index, &point) in edge.iter().enumerate() {
        let (x, y) = plot.at(point);
        let _ = match index {
            0 => write!(path, "M{x:.1} {y:.1}"),
            _ => write!(path, "H{x:.1}V{y:.1}"),
        };
    }
    format!("<path class=\"stairs\" d=\"{path}\"/>")
}

/// A faint arrow in the corner where both metrics are best.
fn better_corner(plot: &Plot, up: (bool, bool)) -> String {
    let [left, top, right, bottom] = plot.inside();
    let (text, anchor) = match up {
        (true, true) => ("better ↗", "end"),
        (true, false) => ("better ↘", "end"),
        (false, true) => ("↖ better", "start"),
        (false, false) => ("↙ better", "start"),
    };
    let x = if up.0 { right - 6.0 } else { left + 6.0 };
    let y = if up.1 { top + 14.0 } else { bottom - 7.0 };
    format!("<text class=\"better\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

/// A place for each point's number: of the spots around the point, the one that touches the fewest points and numbers.
fn label_places(points: &[(f64, f64)], [left, top, right, bottom]: [f64; 4]) -> Vec<(f64, f64)> {
    const SPOTS: [(f64, f64); 8] =
        [(13.0, -9.0), (-13.0, -9.0), (13.0, 9.0), (-13.0, 9.0), (16.0, 0.0), (-16.0, 0.0), (0.0, -15.0), (0.0, 15.0)];
    let mut placed: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &(x, y) in points {
        let touched = |spot: &(f64, f64)| {
            let (px, py) = (x + spot.0, y + spot.1);
            let near = |other: &&(f64, f64), room: f64| {
                (other.0 - px).abs() < LABEL.0 + room && (other.1 - py).abs() < LABEL.1 + room
            };
            let outside = px < left + LABEL.0 || px > right - LABEL.0 || py < top || py > bottom - LABEL.1;
            let numbers = placed.iter().filter(|other| near(other, LABEL.1)).count();
            points.iter().filter(|other| near(other, RADIUS)).count() + 2 * numbers + 4 * usize::from(outside)
        };
        let spot = SPOTS.iter().min_by_key(|spot| touched(spot)).copied().unwrap_or_default();
        placed.push((x + spot.0, y + spot.1));
    }
    placed
}
