//! The frame that charts are drawn in. Colours are classes: the page's style fits them to light and dark.

use std::fmt::Write as _;

use super::scale::Scale;

/// How many colours the page's style has.
const COLOURS: usize = 8;

/// Room for the labels of the axes.
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 46.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;

/// An SVG drawing with two axes. Text that comes in must be escaped, except where a method says that it does so.
pub(super) struct Plot {
    pub(super) x: Scale,
    pub(super) y: Scale,
    width: f64,
    height: f64,
    body: String,
}

impl Plot {
    pub(super) fn new(width: f64, height: f64, x: Scale, y: Scale) -> Self {
        Self { x, y, width, height, body: String::new() }
    }

    /// Where a value stands in the drawing.
    pub(super) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (across, up) = (self.x.place(x), self.y.place(y));
        (LEFT + across * (self.width - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM))
    }

    /// The left, top, right and bottom edge of the area inside the axes.
    pub(super) fn inside(&self) -> [f64; 4] {
        [LEFT, TOP, self.width - RIGHT, self.height - BOTTOM]
    }

    /// Draws grid, ticks and labels. Escapes the labels.
    pub(super) fn axes(&mut self, x_label: &str, y_label: &str) {
        let [left, top, right, bottom] = self.inside();
        let mut grid = String::new();
        for tick in self.y.ticks() {
            let (_, y) = self.at((self.x.low, tick));
            let label = self.y.label(tick);
            let _ = write!(
                grid,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        for tick in self.x.ticks() {
            let (x, _) = self.at((tick, self.y.low));
            let label = self.x.label(tick);
            let _ = write!(
                grid,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 17.0
            );
        }
        let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
        let _ = write!(
            self.body,
            "{grid}<path class=\"axis\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            middle.0,
            self.height - 8.0,
            escape(x_label),
            middle.1,
            escape(y_label)
        );
    }

    /// Draws a line in the colour of series `index`.
    pub(super) fn line(&mut self, index: usize, points: &[(f64, f64)]) {
        let mut path = String::new();
        for &point in points {
            let (x, y) = self.at(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        }
        let _ = write!(self.body, "<path class=\"line {}\" d=\"{path}\"/>", class(index));
    }

    /// Draws a dot with a tooltip; one that is not shown still has the tooltip.
    pub(super) fn dot(&mut self, index: usize, point: (f64, f64), shown: bool, tooltip: &str) {
        let (x, y) = self.at(point);
        if shown {
            let class = class(index);
            let _ = write!(self.body, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
        let _ = write!(
            self.body,
            "<circle class=\"hover\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"><title>{tooltip}</title></circle>"
        );
    }

    /// Adds ready SVG.
    pub(super) fn add(&mut self, svg: &str) {
        self.body.push_str(svg);
    }

    /// The `<svg>` element. Escapes the name that screen readers say.
    pub(super) fn finish(self, name: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            self.width,
            self.height,
            escape(name),
            self.body
        )
    }
}

/// The style's classes for series `index`.
pub(super) fn class(index: usize) -> String {
    let dashed = if index / COLOURS % 2 == 1 { " dashed" } else { "" };
    format!("c{}{dashed}", index % COLOURS)
}

/// Text made safe for HTML and SVG, in content and in quoted attributes. Control characters that XML forbids are dropped.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}
