//! Whether a column of the users or the items was computed over the whole log, its future included.

use super::predict::{Predictor, outside_of_mode, severity};
use super::rank::{correlation, partial, ranks};
use super::report::{Evidence, Severity, Tally};
use super::thresholds::{Bounds, LeakThresholds};
use crate::{Events, Part, Split};

/// Users or items that must have both a value and a figure.
const LEAST_ENTITIES: usize = 30;
/// Of these, how many must differ from the most frequent value; and how many must have held-out events that move their figure.
const LEAST_EACH: usize = 10;

/// One figure of every user or item: over the whole log, and over training rows. `NaN` = unknown.
pub(super) struct Figure {
    tally: Tally,
    whole: Vec<f64>,
    train: Vec<f64>,
}

/// Running figures of one column of the log.
struct Totals {
    sum: Vec<f64>,
    observed: Vec<f64>,
    ever: Vec<f64>,
}

impl Totals {
    fn new(of: &[u32], rows: usize, values: &[f64], counts: impl Fn(usize) -> bool) -> Self {
        let mut totals = Self { sum: vec![0.0; rows], observed: vec![0.0; rows], ever: vec![0.0; rows] };
        for (row, (entity, value)) in of.iter().zip(values).enumerate() {
            if counts(row) && value.is_finite() {
                let entity = *entity as usize;
                totals.sum[entity] += value;
                totals.observed[entity] += 1.0;
                totals.ever[entity] = f64::max(totals.ever[entity], f64::from(u8::from(*value > 0.0)));
            }
        }
        totals
    }

    fn mean(&self) -> Vec<f64> {
        // 0/0 is NaN: unknown.
        self.sum.iter().zip(&self.observed).map(|(sum, observed)| sum / observed).collect()
    }
}

/// All figures of users or items: `of` names that of each event, `rows` is how many there are.
pub(super) fn figures(
    events: &Events,
    split: &Split,
    of: &[u32],
    rows: usize,
    labels: &[(&str, &[f32])],
) -> Vec<Figure> {
    let totals = |values: &[f64]| {
        let whole = Totals::new(of, rows, values, |_| true);
        (whole, Totals::new(of, rows, values, |row| split.part[row] == Part::Train))
    };
    let (whole, train) = totals(&vec![1.0; events.len()]);
    let mut figures = vec![Figure { tally: Tally::Events, whole: whole.sum, train: train.sum }];
    for (name, values) in labels {
        let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        let (whole, train) = totals(&values);
        let name = || (*name).to_owned();
        figures.push(Figure { tally: Tally::Mean(name()), whole: whole.mean(), train: train.mean() });
        figures.push(Figure { tally: Tally::Sum(name()), whole: whole.sum, train: train.sum });
        figures.push(Figure { tally: Tally::Ever(name()), whole: whole.ever, train: train.ever });
    }
    figures
}

impl Figure {
    /// The figure of some users or items alone.
    pub(super) fn of(&self, sample: &[usize]) -> Self {
        let pick = |values: &[f64]| sample.iter().map(|at| values[*at]).collect();
        Self { tally: self.tally.clone(), whole: pick(&self.whole), train: pick(&self.train) }
    }
}

/// The gravest sign that a column follows one of the figures over the whole log, if there is one; of several, the closest.
pub(super) fn judge(
    column: &Predictor,
    figures: &[Figure],
    thresholds: &LeakThresholds,
) -> Option<(Evidence, Severity)> {
    // The value itself before whether there is one: a mean is missing wherever there was nothing to average.
    let mut worst: Option<(f64, Evidence, Severity)> = None;
    for (missing, values) in [(false, column.ranked()), (true, column.missing())] {
        let before = worst.as_ref().map(|(.., severity)| *severity);
        for figure in figures {
            let Some((closeness, evidence, severity)) = follows(&values, missing, figure, thresholds) else {
                continue;
            };
            let graver = worst.as_ref().is_none_or(|(other, _, grave)| (severity, closeness) > (*grave, *other));
            if graver && before.is_none_or(|before| severity > before) {
                worst = Some((closeness, evidence, severity));
            }
        }
    }
    worst.map(|(_, evidence, severity)| (evidence, severity))
}

fn follows(
    values: &[f64],
    missing: bool,
    figure: &Figure,
    thresholds: &LeakThresholds,
) -> Option<(f64, Evidence, Severity)> {
    let rows = values.iter().zip(figure.whole.iter().zip(&figure.train));
    let known = rows.filter(|(value, (whole, train))| !(value.is_nan() || whole.is_nan() || train.is_nan()));
    let (mut value, mut whole, mut train) = (Vec::new(), Vec::new(), Vec::new());
    for (v, (w, t)) in known {
        value.push(*v);
        whole.push(*w);
        train.push(*t);
    }
    let entities = value.len();
    let moved = whole.iter().zip(&train).filter(|(whole, train)| whole != train).count();
    if entities < LEAST_ENTITIES || moved < LEAST_EACH || outside_of_mode(&value) < LEAST_EACH {
        return None;
    }
    let (value, whole, train) = (ranks(&value), ranks(&whole), ranks(&train));
    let with_whole = correlation(&value, &whole)?;
    // A figure that is the same for all in the training rows cannot be followed there.
    let with_train = correlation(&value, &train).unwrap_or(0.0);
    let both = correlation(&whole, &train).unwrap_or(0.0);
    let beyond = partial(with_whole, with_train, both)?;
    // Beyond in the same direction: the column adds what the held-out rows know.
    let beyond = beyond * with_whole.signum();
    let at_least = |bounds: fn(&LeakThresholds) -> Bounds, value: f64| severity(value, bounds(thresholds));
    let severity = at_least(|thresholds| thresholds.future, with_whole.abs())?
        .min(at_least(|thresholds| thresholds.beyond, beyond)?);
    let evidence = Evidence::Future {
        tally: figure.tally.clone(),
        missing,
        whole: with_whole.abs(),
        train: with_train.abs(),
        beyond,
        entities,
    };
    Some((with_whole.abs(), evidence, severity))
}
