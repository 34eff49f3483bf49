//! The formulas: raw features of a ledger's entry. `NaN` = missing.

use super::ledger::Known;
use super::normalise::Feature;

/// Events worth of the overall engagement rate in a smoothed rate.
const RATE_PRIOR: f64 = 10.0;
/// Observations worth of the overall mean in a smoothed mean.
const MEAN_PRIOR: f64 = 5.0;

/// Names of what [`full`] writes.
pub(super) fn full_features(who: &str, columns: &[String]) -> Vec<Feature> {
    let mut features = vec![
        Feature::scaled(format!("{who}.log_events")),
        Feature::scaled(format!("{who}.log_engaged")),
        Feature::scaled(format!("{who}.log_rate")),
        Feature::scaled(format!("{who}.recency")),
        Feature::flag(format!("{who}.never_engaged")),
    ];
    for column in columns {
        features.push(Feature::scaled(format!("{who}.{column}.mean")));
        features.push(Feature::scaled(format!("{who}.{column}.log_count")));
    }
    features
}

/// Everything about an item or a user: counts and engagement rate relative to the average of its kind, time since the last
/// engagement in `unit`s, and mean and count of each of `columns` feedback columns.
pub(super) fn full(
    known: &Known<'_>,
    all: &Known<'_>,
    kinds: usize,
    columns: usize,
    clock: i64,
    unit: f64,
    out: &mut Vec<f64>,
) {
    out.push(relative_log(known.events(), all.events(), kinds));
    out.push(relative_log(known.engaged(), all.engaged(), kinds));
    out.push(log_rate(known, all));
    match known.last_engaged() {
        Some(last) => {
            out.push((clock.saturating_sub(last) as f64 / unit).ln_1p());
            out.push(0.0);
        }
        None => out.extend([f64::NAN, 1.0]),
    }
    for column in 0..columns {
        out.push(mean(known, all, column));
        out.push(relative_log(known.column(column).0, all.column(column).0, kinds));
    }
}

/// Names of what [`brief`] writes.
pub(super) fn brief_features(who: &str, columns: &[String]) -> Vec<Feature> {
    let means = columns.iter().map(|column| Feature::scaled(format!("{who}.{column}.mean")));
    [Feature::scaled(format!("{who}.log_engaged")), Feature::scaled(format!("{who}.log_rate"))]
        .into_iter()
        .chain(means)
        .collect()
}

/// What a provider or a category lends to its items, new ones above all.
pub(super) fn brief(known: &Known<'_>, all: &Known<'_>, kinds: usize, columns: usize, out: &mut Vec<f64>) {
    out.push(relative_log(known.engaged(), all.engaged(), kinds));
    out.push(log_rate(known, all));
    out.extend((0..columns).map(|column| mean(known, all, column)));
}

/// ln((n + 1) / (N/kinds + 1)): a count against the average of its kind so far, comparable early and late in a log.
fn relative_log(count: f64, all: f64, kinds: usize) -> f64 {
    ((count + 1.0) / (all / kinds.max(1) as f64 + 1.0)).ln()
}

/// Logarithm of the smoothed engagement rate over the overall rate.
fn log_rate(known: &Known<'_>, all: &Known<'_>) -> f64 {
    let overall = (all.engaged() + 1.0) / (all.events() + 2.0);
    let rate = (known.engaged() + RATE_PRIOR * overall) / (known.events() + RATE_PRIOR);
    (rate / overall).ln()
}

/// Smoothed mean of a feedback column less the overall mean.
fn mean(known: &Known<'_>, all: &Known<'_>, column: usize) -> f64 {
    let (count, sum) = all.column(column);
    let overall = if count > 0.0 { sum / count } else { 0.0 };
    let (count, sum) = known.column(column);
    (sum + MEAN_PRIOR * overall) / (count + MEAN_PRIOR) - overall
}
