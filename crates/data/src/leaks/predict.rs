//! Whether one value foretells a label.

use std::collections::{BTreeMap, HashMap};

use super::rank::{auc, rank_correlation};
use super::report::{Evidence, Measure, Severity};
use super::thresholds::{Bounds, LeakThresholds};
use crate::transform::Cell;

/// Rows that must know both a value and a label.
const LEAST_ROWS: usize = 50;
/// Of these, rows on the rarer side of anything that has two sides.
const LEAST_EACH: usize = 10;
/// The code of a missing name.
const NO_NAME: u32 = u32::MAX;

/// One value of every row, as a number and as a name.
pub(super) struct Predictor {
    /// `NaN` = missing; empty where it is no number.
    numbers: Vec<f64>,
    /// [`NO_NAME`] = missing; empty where it is no name.
    names: Vec<u32>,
}

impl Predictor {
    pub(super) fn of_cells<'a>(cells: impl Iterator<Item = Option<Cell<'a>>>) -> Self {
        let mut codes: HashMap<String, u32> = HashMap::new();
        let (mut numbers, mut names, mut all_numbers) = (Vec::new(), Vec::new(), true);
        for cell in cells {
            let number = cell.as_ref().and_then(Cell::as_number);
            all_numbers &= cell.is_none() || number.is_some();
            numbers.push(number.unwrap_or(f64::NAN));
            // In the order of their first appearance, so that nothing depends on the map's own order.
            let next = codes.len() as u32;
            names.push(cell.map_or(NO_NAME, |cell| *codes.entry(cell.as_name().into_owned()).or_insert(next)));
        }
        Self { numbers: if all_numbers { numbers } else { Vec::new() }, names }
    }

    pub(super) fn of_numbers(numbers: Vec<f64>) -> Self {
        Self { numbers, names: Vec::new() }
    }

    pub(super) fn of_names(names: Vec<u32>) -> Self {
        Self { numbers: Vec::new(), names }
    }

    /// 1 where the value is missing, else 0.
    pub(super) fn missing(&self) -> Vec<f64> {
        if self.names.is_empty() {
            self.numbers.iter().map(|number| f64::from(u8::from(number.is_nan()))).collect()
        } else {
            self.names.iter().map(|name| f64::from(u8::from(*name == NO_NAME))).collect()
        }
    }

    /// The value as something that can be ranked: a number, or one of two names. Empty where it is neither.
    pub(super) fn ranked(&self) -> Vec<f64> {
        if !self.numbers.is_empty() {
            return self.numbers.clone();
        }
        let known = self.names.iter().filter(|name| **name != NO_NAME);
        match known.max() {
            Some(0 | 1) => {
                let number = |name: &u32| if *name == NO_NAME { f64::NAN } else { f64::from(*name) };
                self.names.iter().map(number).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The gravest sign that the value knows the label (`NaN` = not observed), if there is one.
    pub(super) fn judge(&self, label: &Label<'_>, thresholds: &LeakThresholds) -> Option<(Evidence, Severity)> {
        if let Some((share, rows)) = agreement(&self.numbers, label.values)
            && share >= thresholds.same
        {
            let evidence = Evidence::SameAsLabel { label: label.name.to_owned(), share, rows };
            return Some((evidence, Severity::Refused));
        }
        let scores = [
            (false, both_ways(label.rank(&self.numbers))),
            (false, self.cross_fitted_score(label)),
            (true, both_ways(label.rank(&self.missing()))),
        ];
        let judged = scores.into_iter().filter_map(|(missing, score)| {
            let Score { measure, value, rows } = score?;
            let bounds = match measure {
                Measure::Auc => thresholds.auc,
                Measure::RankCorrelation => thresholds.rank,
            };
            let severity = severity(value, bounds)?;
            Some((Evidence::Foretells { label: label.name.to_owned(), missing, measure, value, rows }, severity))
        });
        // The first of the gravest: the value itself before whether there is one.
        judged.reduce(|first, next| if next.1 > first.1 { next } else { first })
    }

    /// How well names foretell: the least of what comes out of each way of halving the rows.
    fn cross_fitted_score(&self, label: &Label<'_>) -> Option<Score> {
        let scores = label.groups.iter().map(|group| label.rank(&self.cross_fitted(label.values, group)));
        let least = |a: Option<Score>, b: Option<Score>| a.zip(b).map(|(a, b)| if b.value < a.value { b } else { a });
        scores.reduce(least).flatten()
    }

    /// For each row the mean label of the rows with its name in the other half of the groups: a name that belongs to one item only, such as
    /// a title, foretells nothing, however often the item is met. Empty where there are no names.
    fn cross_fitted(&self, label: &[f64], group: &[u32]) -> Vec<f64> {
        let half = |row: usize| (u64::from(group[row]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) as usize;
        let mut halves: [BTreeMap<u32, (f64, f64)>; 2] = Default::default();
        for (row, (name, label)) in self.names.iter().zip(label).enumerate() {
            if *name != NO_NAME && !label.is_nan() {
                let (count, sum) = halves[half(row)].entry(*name).or_default();
                *count += 1.0;
                *sum += label;
            }
        }
        let total = halves.iter().flat_map(BTreeMap::values).fold((0.0, 0.0), |t, h| (t.0 + h.0, t.1 + h.1));
        let score = |(row, name): (usize, &u32)| match halves[1 - half(row)].get(name) {
            _ if *name == NO_NAME => f64::NAN,
            Some((count, sum)) => sum / count,
            None => total.1 / f64::max(total.0, 1.0),
        };
        self.names.iter().enumerate().map(score).collect()
    }
}

/// The label of every row, `NaN` where it was not observed.
pub(super) struct Label<'a> {
    pub(super) name: &'a str,
    pub(super) values: &'a [f64],
    /// Ways to group the rows, by item or by user, so that nothing is foretold by its own group.
    pub(super) groups: &'a [Vec<u32>],
}

struct Score {
    measure: Measure,
    value: f64,
    rows: usize,
}

impl Label<'_> {
    /// How well `scores` (`NaN` = missing) rank the label: the AUC of a label that is 0 or 1, else Spearman's rank correlation.
    fn rank(&self, scores: &[f64]) -> Option<Score> {
        let both = scores.iter().zip(self.values).filter(|(score, label)| !score.is_nan() && !label.is_nan());
        let (scores, labels): (Vec<f64>, Vec<f64>) = both.map(|(score, label)| (*score, *label)).unzip();
        let rows = labels.len();
        if rows < LEAST_ROWS {
            return None;
        }
        if labels.iter().all(|label| *label == 0.0 || *label == 1.0) {
            let positive: Vec<bool> = labels.iter().map(|label| *label == 1.0).collect();
            let positives = positive.iter().filter(|positive| **positive).count();
            let enough = positives.min(rows - positives) >= LEAST_EACH;
            return auc(&scores, &positive).filter(|_| enough).map(|value| Score {
                measure: Measure::Auc,
                value,
                rows,
            });
        }
        // A side with two values, one of them in a handful of rows, correlates by chance.
        let enough = outside_of_mode(&scores) >= LEAST_EACH && outside_of_mode(&labels) >= LEAST_EACH;
        let correlation = rank_correlation(&scores, &labels).filter(|_| enough);
        correlation.map(|value| Score { measure: Measure::RankCorrelation, value, rows })
    }
}

/// A number may rank the label upside down.
fn both_ways(score: Option<Score>) -> Option<Score> {
    score.map(|score| {
        let value = match score.measure {
            Measure::Auc => score.value.max(1.0 - score.value),
            Measure::RankCorrelation => score.value.abs(),
        };
        Score { value, ..score }
    })
}

/// Where a figure stands between its bounds.
pub(super) fn severity(value: f64, bounds: Bounds) -> Option<Severity> {
    match value {
        value if value >= bounds.refuse => Some(Severity::Refused),
        value if value >= bounds.warn => Some(Severity::Warning),
        _ => None,
    }
}

/// Share of the rows that have the label's value, and how many rows know both: the smaller of the share among rows with the label's most
/// frequent value and among the others, since a constant agrees with a rare event nearly everywhere.
fn agreement(numbers: &[f64], label: &[f64]) -> Option<(f64, usize)> {
    let both = numbers.iter().zip(label).filter(|(number, label)| !number.is_nan() && !label.is_nan());
    let (numbers, labels): (Vec<f64>, Vec<f64>) = both.map(|(number, label)| (*number, *label)).unzip();
    let (mode, frequency) = mode(&labels)?;
    let others = labels.len() - frequency;
    if labels.len() < LEAST_ROWS || others < LEAST_EACH {
        return None;
    }
    // Labels are kept in 32 bits.
    let same = |number: f64, label: f64| number as f32 == label as f32;
    let (mut of_mode, mut of_others) = (0, 0);
    for (_, label) in numbers.iter().zip(&labels).filter(|(number, label)| same(**number, **label)) {
        if *label == mode { of_mode += 1 } else { of_others += 1 }
    }
    let share = f64::min(f64::from(of_mode) / frequency as f64, f64::from(of_others) / others as f64);
    Some((share, labels.len()))
}

/// The most frequent value, the smallest of several, and its frequency.
fn mode(values: &[f64]) -> Option<(f64, usize)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let runs = sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()));
    runs.reduce(|best, run| if run.1 > best.1 { run } else { best })
}

/// How many values are not the most frequent one.
pub(super) fn outside_of_mode(values: &[f64]) -> usize {
    mode(values).map_or(0, |(_, frequency)| values.len() - frequency)
}
