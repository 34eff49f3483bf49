use serde::{Deserialize, Serialize};

use super::table::{Cell, Table};
use crate::{EvalError, better_is_higher, hypervolume, non_dominated, reference_point};

/// The trade-offs between objectives: one point per trained balance.
///
/// Make it with [`measure`](Self::measure), which marks the front and measures its hypervolume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FrontSection {
    /// What the coordinates of the points measure, such as `click auc`.
    pub metrics: Vec<String>,
    /// Per metric, whether larger is better.
    pub maximise: Vec<bool>,
    /// The trained balances.
    pub points: Vec<FrontPoint>,
    /// Pairs of metrics (by position) to draw against each other; if empty, every pair, six at most.
    #[serde(default)]
    pub pairs: Vec<(usize, usize)>,
    /// The volume that the front dominates, measured from `reference`.
    pub hypervolume: f64,
    /// Where the hypervolume is measured from, one value per metric.
    pub reference: Vec<f64>,
}

/// One trained balance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Its name, such as `mgda` or `click 0.7`.
    pub label: String,
    /// Objective and weight; empty for methods that find their own weights.
    #[serde(default)]
    pub weights: Vec<(String, f64)>,
    /// One value per metric.
    pub metrics: Vec<f64>,
    /// Whether no other point dominates it; [`FrontSection::measure`] sets it.
    #[serde(default)]
    pub on_front: bool,
}

impl FrontPoint {
    /// A point that is not yet known to be on the front.
    #[must_use]
    pub fn new(label: impl Into<String>, weights: Vec<(String, f64)>, metrics: Vec<f64>) -> Self {
        Self { label: label.into(), weights, metrics, on_front: false }
    }
}

impl FrontSection {
    /// Marks the non-dominated points and measures their hypervolume. The direction of each metric comes from
    /// [`better_is_higher`], the reference point from [`reference_point`] with a margin of 0.1.
    ///
    /// # Errors
    /// [`EvalError::Dimension`] if a point does not have one value per metric.
    pub fn measure<M: Into<String>>(
        metrics: impl IntoIterator<Item = M>,
        points: Vec<FrontPoint>,
    ) -> Result<Self, EvalError> {
        let metrics: Vec<String> = metrics.into_iter().map(Into::into).collect();
        let maximise: Vec<bool> = metrics.iter().map(|name| better_is_higher(name)).collect();
        let values: Vec<Vec<f64>> = points.iter().map(|point| point.metrics.clone()).collect();
        let reference = reference_point(&values, &maximise, 0.1)?;
        Self::measure_from(metrics, maximise, points, reference)
    }

    /// As [`measure`](Self::measure), with directions and a reference point of one's own: needed to compare the hypervolumes of
    /// several runs.
    ///
    /// # Errors
    /// [`EvalError::Dimension`] if a point, or [`EvalError::Length`] if `maximise` or `reference`, does not have one value per
    /// metric.
    pub fn measure_from(
        metrics: Vec<String>,
        maximise: Vec<bool>,
        mut points: Vec<FrontPoint>,
        reference: Vec<f64>,
    ) -> Result<Self, EvalError> {
        if maximise.len() != metrics.len() {
            return Err(EvalError::Length {
                what: "maximise",
                found: maximise.len(),
                expected: metrics.len(),
                per: "metric",
            });
        }
        let values: Vec<Vec<f64>> = points.iter().map(|point| point.metrics.clone()).collect();
        let hypervolume = hypervolume(&values, &reference, &maximise)?;
        for (point, on_front) in points.iter_mut().zip(non_dominated(&values, &maximise)?) {
            point.on_front = on_front;
        }
        Ok(Self { metrics, maximise, points, pairs: Vec::new(), hypervolume, reference })
    }

    /// Chooses the pairs of metrics to draw; pairs of unknown metrics are ignored.
    #[must_use]
    pub fn pairs(mut self, pairs: &[(usize, usize)]) -> Self {
        self.pairs = pairs.to_vec();
        self
    }

    /// The points as a table: number (as in the plots), name, weights, metrics with the best of each marked, and whether the
    /// point is on the front.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut objectives: Vec<&String> = Vec::new();
        for (name, _) in self.points.iter().flat_map(|point| &point.weights) {
            if !objectives.contains(&name) {
                objectives.push(name);
            }
        }
        let best: Vec<Option<f64>> = (0..self.metrics.len())
            .map(|metric| {
                let values = self.points.iter().filter_map(|point| point.metrics.get(metric));
                let finite = values.copied().filter(|value| value.is_finite());
                let up = self.maximise.get(metric).copied().unwrap_or(true);
                finite.reduce(|a, b| if up { a.max(b) } else { a.min(b) })
            })
            .collect();

        let mut columns = vec!["#".to_owned(), "balance".to_owned(), "front".to_owned()];
        columns.extend(objectives.iter().map(|name| format!("weight {name}")));
        columns.extend(self.metrics.iter().enumerate().map(|(at, name)| {
            let up = self.maximise.get(at).copied().unwrap_or(true);
            format!("{name} {}", if up { '↑' } else { '↓' })
        }));
        let mut table = Table::new("", columns);
        for (index, point) in self.points.iter().enumerate() {
            let mark = if point.on_front { "●".into() } else { Cell::from("") };
            let mut cells = vec![Cell::count(index + 1), point.label.as_str().into(), mark];
            cells.extend(objectives.iter().map(|objective| {
                let weight = point.weights.iter().find(|(name, _)| name == *objective);
                weight.map_or(Cell::Empty, |(_, weight)| Cell::number(*weight, 2))
            }));
            cells.extend(point.metrics.iter().zip(&best).map(|(&value, best)| Cell::Number {
                value,
                digits: 4,
                best: self.points.len() > 1 && Some(value) == *best,
            }));
            table = table.row(cells);
        }
        table
    }

    /// The pairs to draw.
    pub(super) fn drawn_pairs(&self) -> Vec<(usize, usize)> {
        let count = self.metrics.len();
        if self.pairs.is_empty() {
            let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
            return all.take(6).collect();
        }
        self.pairs.iter().copied().filter(|&(a, b)| a < count && b < count).collect()
    }
}
