//! Predicted probabilities against frequencies.

use serde::{Deserialize, Serialize};

use super::chart::significant;
use super::scale::Scale;
use super::svg::{Plot, class, escape};
use crate::ReliabilityBin;

/// A reliability diagram: for each bin of predictions, how often they came true (Niculescu-Mizil and Caruana, ICML 2005). Predictions that
/// are frequencies lie on the diagonal; a dot is the larger the more rows its bin holds.
///
/// ```
/// use paretune_eval::report::{Reliability, Report};
/// use paretune_eval::reliability;
///
/// let labels = [1.0, 0.0, 1.0, 1.0];
/// let bins = reliability(&[0.9, 0.2, 0.8, 0.3], &labels, 15).unwrap();
/// let page = Report::new("Run").reliability(Reliability::new("click").line("model", bins)).render()?;
/// assert!(page.contains("Are probabilities frequencies?"));
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Heading: the objective.
    pub title: String,
    /// Name and bins of each method, in the order of the legend.
    pub lines: Vec<(String, Vec<ReliabilityBin>)>,
}

/// Radius of a dot that holds next to nothing, and what is added for one that holds all.
const RADIUS: (f64, f64) = (2.5, 6.5);

impl Reliability {
    /// A diagram without lines.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// Adds the bins of one method ([`reliability`](crate::reliability)).
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, bins: Vec<ReliabilityBin>) -> Self {
        self.lines.push((name.into(), bins));
        self
    }

    /// The diagram's `<svg>`, or `None` without one bin. Both axes cover what is predicted and what is observed, from 0.
    pub(super) fn svg(&self) -> Option<String> {
        let drawn = |bin: &&ReliabilityBin| bin.count > 0 && bin.predicted.is_finite() && bin.observed.is_finite();
        let all = || self.lines.iter().flat_map(|(_, bins)| bins.iter().filter(drawn));
        let most = all().map(|bin| bin.predicted.max(bin.observed)).reduce(f64::max)?;
        // A little room above, but none beyond certainty.
        let ends = [0.0, (most * 1.05).clamp(0.01, 1.0)];
        let scale = || Scale::around(ends.into_iter(), 0.0);
        let mut plot = Plot::new(400.0, 340.0, scale()?, scale()?);
        plot.axes("predicted probability", "share that came true");
        let ((x1, y1), (x2, y2)) = (plot.at((ends[0], ends[0])), plot.at((ends[1], ends[1])));
        plot.add(&format!("<path class=\"diagonal\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>"));
        for (index, (name, bins)) in self.lines.iter().enumerate() {
            let rows: usize = bins.iter().map(|bin| bin.count).sum();
            let points: Vec<(f64, f64)> = bins.iter().filter(drawn).map(|bin| (bin.predicted, bin.observed)).collect();
            plot.line(index, &points);
            for (bin, point) in bins.iter().filter(drawn).zip(points) {
                let (x, y) = plot.at(point);
                // Areas are shares.
                let radius = RADIUS.0 + RADIUS.1 * (bin.count as f64 / rows as f64).sqrt();
                let (predicted, observed) = (significant(bin.predicted), significant(bin.observed));
                let tooltip = format!("{name}\npredicted: {predicted}\ncame true: {observed}\nrows: {}", bin.count);
                plot.add(&format!(
                    "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{}</title></circle>",
                    class(index),
                    escape(&tooltip)
                ));
            }
        }
        Some(plot.finish(&format!("{}: predicted probabilities against frequencies", self.title)))
    }
}
