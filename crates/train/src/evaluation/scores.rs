//! From predictions to metrics, and the table that `metrics.json` holds.

use std::collections::BTreeMap;

use paretune_eval::{RankingAccumulator, auc, expected_calibration_error, gauc, log_loss, mae, rmse, top_k};
use paretune_objectives::{Direction, Goal, Kind, ListGoal, Objective, Objectives};
use serde::{Deserialize, Serialize};

use super::calibration::calibrated;
use super::{Gate, Ranked, Rows};

/// Metric → method (`model`, `untrained`, `popularity`, …) → value.
pub type MetricTable = BTreeMap<String, BTreeMap<String, f64>>;

/// What a bucket of a divided ranking holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// `item` or `user`: what it divides by.
    pub by: String,
    /// Its range.
    pub name: String,
    /// Users with a relevant item in it.
    pub users: usize,
    /// Relevant items in it.
    pub relevant: usize,
}

/// Everything measured on the test part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Objective → metric → method → value.
    pub objectives: BTreeMap<String, MetricTable>,
    /// The same on rows whose item nobody engaged with in training.
    pub cold: BTreeMap<String, MetricTable>,
    /// Full ranking of the catalogue.
    pub ranking: MetricTable,
    /// The same by how often training met the relevant item: bucket → metric → method → value.
    pub by_item: BTreeMap<String, MetricTable>,
    /// The same by the length of the user's history.
    pub by_user: BTreeMap<String, MetricTable>,
    /// How many relevant items and users the buckets hold.
    pub buckets: Vec<Bucket>,
    /// The lists as lists.
    pub list: MetricTable,
    /// Re-ranking what each request really showed, by the first objective (for what is not, where less of it is wanted). Empty where the log holds only positives.
    pub shown: MetricTable,
    /// What the model's objectives listen to; empty where towers share no more than the representation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

impl Metrics {
    /// Adds the value metrics of one method's predictions `[objective][row]`; an absent prediction is left out.
    pub fn add(&mut self, method: &str, objectives: &Objectives, rows: &Rows, predictions: &[Option<Vec<f32>>]) {
        for (k, (objective, prediction)) in objectives.iter().zip(predictions).enumerate() {
            let Some(prediction) = prediction else { continue };
            let mut values = value_metrics(objective, prediction, &rows.labels[k], &rows.users);
            if calibrated(objective.kind) {
                let error = expected_calibration_error(prediction, &rows.labels[k], CALIBRATION_BINS);
                values.extend(error.map(|error| ("ece".to_owned(), error)));
            }
            put(&mut self.objectives, objective, method, values);
            let labels: Vec<f32> = rows.labels[k]
                .iter()
                .zip(&rows.cold)
                .map(|(label, cold)| if *cold { *label } else { f32::NAN })
                .collect();
            put(&mut self.cold, objective, method, value_metrics(objective, prediction, &labels, &rows.users));
            if k == 0 && objective.kind.is_binary() && !rows.sampled {
                let shown = match objective.direction {
                    Direction::More => shown_metrics(prediction, &rows.labels[k], rows),
                    // What did not happen is what was to be found.
                    Direction::Less => {
                        let turned =
                            |values: &[f32], by: f32| values.iter().map(|value| by - value).collect::<Vec<_>>();
                        shown_metrics(&turned(prediction, 0.0), &turned(&rows.labels[k], 1.0), rows)
                    }
                };
                Self::add_to(&mut self.shown, method, shown);
            }
        }
    }

    /// Adds everything that one method's rankings are worth.
    pub fn add_ranked(&mut self, method: &str, ranked: Ranked) {
        Self::add_to(&mut self.ranking, method, ranked.ranking);
        Self::add_to(&mut self.list, method, ranked.list);
        for (by, tables, parts) in
            [("item", &mut self.by_item, ranked.by_item), ("user", &mut self.by_user, ranked.by_user)]
        {
            for part in parts.into_iter().filter(|part| part.users > 0) {
                Self::add_to(tables.entry(part.name.clone()).or_default(), method, part.metrics);
                let bucket = Bucket { by: by.into(), name: part.name, users: part.users, relevant: part.relevant };
                if !self.buckets.contains(&bucket) {
                    self.buckets.push(bucket);
                }
            }
        }
    }

    /// Adds ranking or list metrics of one method.
    pub fn add_to(table: &mut MetricTable, method: &str, values: BTreeMap<String, f64>) {
        for (metric, value) in values {
            table.entry(metric).or_default().insert(method.into(), value);
        }
    }

    /// The value of a method on an objective's primary metric.
    pub fn primary(&self, objective: &Objective, method: &str) -> Option<f64> {
        self.objectives.get(&objective.name)?.get(primary_metric(objective))?.get(method).copied()
    }
}

fn put(table: &mut BTreeMap<String, MetricTable>, objective: &Objective, method: &str, values: BTreeMap<String, f64>) {
    if !values.is_empty() {
        Metrics::add_to(table.entry(objective.name.clone()).or_default(), method, values);
    }
}

/// Bins of equal width that probabilities are compared with frequencies in: as many as Guo et al. (2017) have.
pub const CALIBRATION_BINS: usize = 15;

/// Cut-offs of [`shown_metrics`], as in the MIND news benchmark: a request shows few items.
const SHOWN: [usize; 2] = [5, 10];

/// NDCG and the like of each request's own items, ranked by prediction; means over the requests that hold a positive and a
/// negative. The protocol of logs with impressions (Wu et al. 2020, "MIND"): unlike a ranking of the whole catalogue, it does not
/// reward guessing what the system that wrote the log used to show.
pub(super) fn shown_metrics(predictions: &[f32], labels: &[f32], rows: &Rows) -> BTreeMap<String, f64> {
    let mut measured = RankingAccumulator::new(&SHOWN);
    let mut start = 0;
    while start < rows.len() {
        let key = (rows.users[start], rows.clocks[start]);
        let same = (start..rows.len()).take_while(|&at| (rows.users[at], rows.clocks[at]) == key).count();
        let request = start..start + same;
        let relevant: Vec<u32> =
            (0u32..).zip(request.clone()).filter(|(_, at)| labels[*at] > 0.0).map(|(place, _)| place).collect();
        if !relevant.is_empty() && relevant.len() < same {
            measured.add_user(&top_k(&predictions[request], same, &[]), &relevant);
        }
        start += same;
    }
    let wanted = |name: &String| ["ndcg", "mrr", "hit"].iter().any(|metric| name.starts_with(metric));
    measured.finish().into_iter().filter(|(name, _)| wanted(name)).collect()
}

/// The metric an objective is judged by: AUC for yes-or-no, RMSE for ratings, RMSE of `ln(1 + seconds)` for times.
pub fn primary_metric(objective: &Objective) -> &'static str {
    match objective.kind {
        Kind::Binary | Kind::Conditional | Kind::Ranking => "auc",
        Kind::Regression | Kind::Custom => "rmse",
        Kind::LogRegression => "log_rmse",
        Kind::List => objective.goal.as_ref().map_or("list", list_metric),
        Kind::Cost => "width",
    }
}

/// The name of an objective's metric in [`Ranked::list`] for lists of `k`, if it is a goal of lists.
pub fn list_metric_at(objective: &Objective, k: usize) -> Option<String> {
    let goal = objective.goal.as_ref()?;
    let metric = list_metric(goal);
    Some(if goal.name == Goal::Exposure { format!("{}.{metric}@{k}", objective.name) } else { format!("{metric}@{k}") })
}

/// What a goal of lists is judged by: a metric of lists, between 0 and 1 but for novelty, which is in bits.
fn list_metric(goal: &ListGoal) -> &'static str {
    match goal.name {
        Goal::Diversity => "diversity",
        Goal::Coverage => "coverage",
        Goal::Exposure => "disparity",
        Goal::Novelty => "novelty",
    }
}

/// The value metrics of one objective; those that are not defined on these labels are left out.
pub fn value_metrics(
    objective: &Objective,
    predictions: &[f32],
    labels: &[f32],
    users: &[u32],
) -> BTreeMap<String, f64> {
    let values: Vec<(&str, Option<f64>)> = match objective.kind {
        Kind::Binary | Kind::Conditional => vec![
            ("auc", auc(predictions, labels)),
            ("gauc", gauc(predictions, labels, users)),
            ("log_loss", log_loss(predictions, labels)),
        ],
        Kind::List | Kind::Cost => Vec::new(),
        Kind::Ranking => vec![("auc", auc(predictions, labels)), ("gauc", gauc(predictions, labels, users))],
        Kind::Regression | Kind::Custom => vec![("rmse", rmse(predictions, labels)), ("mae", mae(predictions, labels))],
        Kind::LogRegression => {
            let log = |values: &[f32]| values.iter().map(|value| value.max(0.0).ln_1p()).collect::<Vec<f32>>();
            let observed: Vec<f32> =
                labels.iter().map(|label| if label.is_finite() { label.ln_1p() } else { f32::NAN }).collect();
            vec![("log_rmse", rmse(&log(predictions), &observed)), ("mae", mae(predictions, labels))]
        }
    };
    values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// How much better than knowing nothing predictions are, 1 being perfect: `2 AUC - 1`, or R² (of logarithms, for times). `None` where the
/// labels do not tell.
pub fn skill(objective: &Objective, predictions: &[f32], labels: &[f32], users: &[u32]) -> Option<f64> {
    let value = *value_metrics(objective, predictions, labels, users).get(primary_metric(objective))?;
    match objective.kind {
        Kind::Binary | Kind::Conditional | Kind::Ranking => Some(2.0 * value - 1.0),
        Kind::Regression | Kind::LogRegression | Kind::Custom => {
            Some(1.0 - value * value / variance(objective.kind, labels)?)
        }
        Kind::List | Kind::Cost => None,
    }
}

/// Variance of a regression's labels in the unit its error is in; `None` where they hardly differ.
pub(super) fn variance(kind: Kind, labels: &[f32]) -> Option<f64> {
    let log = match kind {
        Kind::Binary | Kind::Conditional | Kind::Ranking | Kind::List | Kind::Cost => return None,
        Kind::Regression | Kind::Custom => false,
        Kind::LogRegression => true,
    };
    let values: Vec<f64> = labels
        .iter()
        .filter(|label| label.is_finite())
        .map(|&label| if log { f64::from(label.max(0.0)).ln_1p() } else { f64::from(label) })
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    (variance > 1e-12).then_some(variance)
}
