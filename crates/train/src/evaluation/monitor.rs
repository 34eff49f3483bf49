//! What early stopping looks at.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use paretune_data::Part;
use paretune_eval::{RankingAccumulator, better_is_higher};
use paretune_objectives::{Goal, Kind, Objective, Objectives};
use paretune_recommender::{Corpus, Recommender};

use super::scores::variance;
use super::{Ranking, Rows, list_metric_at, predict_for, primary_metric, value_metrics};
use crate::TrainError;

/// Validation scores at most this many rows: enough to compare weights of one run.
const ROWS: usize = 20_000;
/// Cut-offs of the ranking metrics.
const CUTS: [usize; 2] = [10, 20];

/// Measures the validation part and combines the metrics into the one number that chooses the best weights.
pub struct Monitor<'a> {
    weights: BTreeMap<String, f64>,
    rows: Rows,
    ranking: Option<Ranking<'a>>,
    /// Variance of each regression target, for R².
    variances: Vec<Option<f64>>,
}

impl<'a> Monitor<'a> {
    /// Ranks for at most `users`. `weights` maps metrics (`click.auc`, `satisfaction.rmse`, `ndcg@10`) to weights; empty for the default.
    ///
    /// # Errors
    /// An empty validation part, or a metric that the validation part cannot give.
    pub fn new(
        corpus: &'a Corpus,
        objectives: &Objectives,
        weights: &BTreeMap<String, f64>,
        negatives: usize,
        users: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let rows = Rows::new(corpus, objectives, Part::Valid, negatives, ROWS, seed)?;
        let lists = objectives.iter().any(|objective| objective.kind == Kind::List);
        let ranks = lists || weights.keys().any(|name| name.contains('@'));
        let variances =
            objectives.iter().zip(&rows.labels).map(|(objective, labels)| variance(objective.kind, labels)).collect();
        let ranking =
            ranks.then(|| Ranking::new(corpus, Part::Valid, users, &CUTS).with_goals(objectives)).transpose()?;
        let monitor = Self { weights: weights.clone(), rows, ranking, variances };
        let known = monitor.known(objectives);
        match weights.keys().find(|name| !known.contains(*name)) {
            // Better now than after half an epoch.
            Some(name) => Err(unknown(name, known.iter())),
            None => Ok(monitor),
        }
    }

    /// Names of the metrics that the labels and users of the validation part can give.
    fn known(&self, objectives: &Objectives) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for (k, objective) in objectives.iter().enumerate() {
            // Which metrics are defined depends on the labels alone.
            let guess = vec![0.5; self.rows.len()];
            let names = value_metrics(objective, &guess, &self.rows.labels[k], &self.rows.users).into_keys();
            known.extend(names.map(|name| format!("{}.{name}", objective.name)));
            known.extend(self.variances[k].map(|_| format!("{}.r2", objective.name)));
            known.extend((!objective.kind.has_labels()).then(|| of_goal(objective)));
        }
        if self.ranking.as_ref().is_none_or(|ranking| !ranking.is_empty()) {
            known.extend(RankingAccumulator::new(&CUTS).per_user().into_keys());
        }
        known
    }

    /// Every metric of the validation part: `objective.metric`, and, where the combination asks for one, ranking metrics of
    /// ranking by the first objective.
    ///
    /// # Errors
    /// When the model fails.
    pub fn measure(
        &self,
        model: &Recommender,
        corpus: &Corpus,
        objectives: &Objectives,
        known: &Tensor,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        Ok(self.measure_for(&[None], model, corpus, objectives, known)?.remove(0))
    }

    /// What chooses the weights of a model with conditioning: the metrics at the first preference, and the mean over all of
    /// [`Self::combine`]d metrics, where each preference asks for the objectives that it wants (a combination of one's own is the same
    /// for all of them). A model that is good for one balance only is not chosen.
    ///
    /// # Errors
    /// As [`Self::measure`] and [`Self::combine`].
    pub(crate) fn over(
        &self,
        preferences: &[Vec<f64>],
        model: &Recommender,
        corpus: &Corpus,
        objectives: &Objectives,
        known: &Tensor,
    ) -> Result<(BTreeMap<String, f64>, f64), TrainError> {
        let asked: Vec<Option<&[f64]>> = preferences.iter().map(|preference| Some(preference.as_slice())).collect();
        let mut measured = self.measure_for(&asked, model, corpus, objectives, known)?;
        let mut sum = 0.0;
        for (metrics, preference) in measured.iter().zip(preferences) {
            let wanted: Vec<bool> = preference.iter().map(|share| *share > 0.0).collect();
            sum += self.combine(metrics, objectives, &wanted)?;
        }
        Ok((measured.swap_remove(0), sum / preferences.len() as f64))
    }

    fn measure_for(
        &self,
        preferences: &[Option<&[f64]>],
        model: &Recommender,
        corpus: &Corpus,
        objectives: &Objectives,
        known: &Tensor,
    ) -> Result<Vec<BTreeMap<String, f64>>, TrainError> {
        let predictions = predict_for(model, corpus, known, &self.rows, preferences, &mut |_| {})?;
        let mut all = Vec::with_capacity(preferences.len());
        for (predictions, preference) in predictions.iter().zip(preferences) {
            let mut metrics = self.value_metrics(objectives, predictions);
            for objective in objectives.iter().filter(|objective| objective.kind == Kind::Cost) {
                metrics.extend(model.kept_width()?.map(|share| (of_goal(objective), share)));
            }
            if let Some(ranking) = &self.ranking {
                let mut weights = vec![0.0; objectives.len()];
                let first = objectives.iter().position(|objective| objective.kind.has_labels());
                weights[first.unwrap_or_default()] = 1.0;
                let vectors = model.list_facts().and_then(|facts| facts.vectors());
                let vectors = vectors.map_or(Ok(Vec::new()), |vectors| vectors.flatten_all()?.to_vec1::<f32>())?;
                let ranked = ranking.model_for(*preference, model, objectives, known, &weights, &vectors)?;
                metrics.extend(ranked.ranking);
                for objective in objectives {
                    let value = list_metric_at(objective, CUTS[0]).and_then(|name| ranked.list.get(&name).copied());
                    let most = match objective.goal.as_ref().map(|goal| goal.name) {
                        Some(Goal::Novelty) => ranking.most_novel().max(1.0),
                        _ => 1.0,
                    };
                    metrics.extend(value.map(|value| (of_goal(objective), value / most)));
                }
            }
            all.push(metrics);
        }
        Ok(all)
    }

    fn value_metrics(&self, objectives: &Objectives, predictions: &[Vec<f32>]) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for (k, objective) in objectives.iter().enumerate() {
            for (name, value) in value_metrics(objective, &predictions[k], &self.rows.labels[k], &self.rows.users) {
                // Of the squared error in the unit the loss is in: logs for times.
                if let ("rmse" | "log_rmse", Some(variance)) = (name.as_str(), self.variances[k]) {
                    metrics.insert(format!("{}.r2", objective.name), 1.0 - value * value / variance);
                }
                metrics.insert(format!("{}.{name}", objective.name), value);
            }
        }
        metrics
    }

    /// How good each objective is, larger being better: AUC, or R² for regressions; `None` where it is not measured.
    pub(crate) fn skills(metrics: &BTreeMap<String, f64>, objectives: &Objectives) -> Vec<Option<f64>> {
        let skill = |objective: &Objective| {
            let metric = match objective.kind {
                Kind::List | Kind::Cost => {
                    let value = metrics.get(&of_goal(objective)).copied()?;
                    return Some(if better_is_higher(primary_metric(objective)) { value } else { 1.0 - value });
                }
                Kind::Binary | Kind::Conditional | Kind::Ranking => primary_metric(objective),
                Kind::Regression | Kind::LogRegression | Kind::Custom => "r2",
            };
            metrics.get(&format!("{}.{metric}", objective.name)).copied()
        };
        objectives.iter().map(skill).collect()
    }

    /// The combination, higher is better.
    ///
    /// # Errors
    /// A name in the combination that was not measured.
    pub fn combine(
        &self,
        metrics: &BTreeMap<String, f64>,
        objectives: &Objectives,
        wanted: &[bool],
    ) -> Result<f64, TrainError> {
        if self.weights.is_empty() {
            let skills = Self::skills(metrics, objectives);
            let skills: Vec<f64> =
                skills.into_iter().zip(wanted).filter_map(|(skill, wanted)| skill.filter(|_| *wanted)).collect();
            return Ok(skills.iter().sum::<f64>() / skills.len().max(1) as f64);
        }
        self.weights
            .iter()
            .map(|(name, weight)| {
                let value = metrics.get(name).ok_or_else(|| unknown(name, metrics.keys()))?;
                let metric = name.rsplit('.').next().unwrap_or(name);
                Ok(if better_is_higher(metric) { weight * value } else { -weight * value })
            })
            .sum()
    }
}

/// The name of what a goal without labels comes to: between 0 and 1, novelty as a share of the most there can be.
fn of_goal(objective: &Objective) -> String {
    format!("{}.{}", objective.name, primary_metric(objective))
}

fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> TrainError {
    TrainError::UnknownMetric { name: name.to_owned(), known: known.cloned().collect::<Vec<_>>().join(", ") }
}
