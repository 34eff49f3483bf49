//! Models on the front: what each of them is worth by every objective.

use std::collections::BTreeMap;

use candle_core::Tensor;
use paretune_eval::report::{FrontPoint, FrontSection};
use paretune_objectives::Kind;
use paretune_recommender::Recommender;
use paretune_train::evaluation::{list_metric_at, predict, primary_metric, value_metrics};

use super::Bench;

impl Bench<'_> {
    /// Adds a model to the front: each objective's primary metric. Returns what its lists are like when served by its weights.
    pub(crate) fn point(
        &mut self,
        label: &str,
        weights: &[f64],
        model: &Recommender,
        known: &Tensor,
    ) -> anyhow::Result<BTreeMap<String, f64>> {
        let job = self.job;
        let predictions = predict(model, &job.corpus, known, &self.rows)?;
        let ranked = self.ranking.model(model, &job.objectives, known, weights, &self.vectors)?;
        let listed: BTreeMap<String, f64> = ranked.ranking.into_iter().chain(ranked.list).collect();
        let width = model.kept_width()?;
        let metrics = job.objectives.iter().enumerate().map(|(k, objective)| {
            let metric = self.front_metric(k);
            let of_lists = match objective.kind {
                Kind::Cost => Some(width),
                _ => metric.contains('@').then(|| listed.get(&metric).copied()),
            };
            let values = || value_metrics(objective, &predictions[k], &self.rows.labels[k], &self.rows.users);
            of_lists.unwrap_or_else(|| values().get(&metric).copied()).unwrap_or(f64::NAN)
        });
        let layers = self.exits.then(|| model.encoder().map_or(0.0, |encoder| encoder.config().layers() as f64));
        let metrics = metrics.chain(layers);
        let named = job.objectives.names().map(str::to_owned).zip(weights.iter().copied()).collect();
        self.points.push(FrontPoint::new(label, named, metrics.collect()));
        Ok(listed)
    }

    /// What the front shows of the objective at `k`: its primary metric; for one whose lists some goal is about, or a ranking where width has
    /// its price, what the lists are worth.
    fn front_metric(&self, k: usize) -> String {
        let objectives = &self.job.objectives;
        let cut = self.cut();
        let shaped = (0..objectives.len()).any(|goal| objectives.shaped_by(goal) == Some(k));
        let costs = objectives.iter().any(|objective| objective.kind == Kind::Cost);
        let shaped = shaped || (costs && objectives.as_slice()[k].kind == Kind::Ranking);
        let objective = &objectives.as_slice()[k];
        match list_metric_at(objective, cut) {
            Some(metric) => metric,
            None if shaped => format!("ndcg@{cut}"),
            None => primary_metric(objective).to_owned(),
        }
    }

    /// Has the front show how many layers of the text encoder each model has.
    pub(crate) fn count_layers(&mut self) {
        self.exits = true;
    }

    /// Where lists are cut.
    pub(super) fn cut(&self) -> usize {
        self.job.config.evaluation.top.first().copied().unwrap_or(10)
    }

    /// The front over the points so far; metrics that some point lacks are left out. `None` with fewer than two points or metrics.
    pub(crate) fn front(&self) -> anyhow::Result<Option<FrontSection>> {
        let measured = |m: &usize| self.points.iter().all(|point| point.metrics[*m].is_finite());
        let count = self.job.objectives.len() + usize::from(self.exits);
        let kept: Vec<usize> = (0..count).filter(measured).collect();
        if self.points.len() < 2 || kept.len() < 2 {
            return Ok(None);
        }
        let objectives = self.job.objectives.as_slice();
        let names = kept.iter().map(|&m| {
            let Some(objective) = objectives.get(m) else { return "text layers".to_owned() };
            let (name, metric) = (&objective.name, self.front_metric(m));
            format!("{name} {}", metric.strip_prefix(&format!("{name}.")).unwrap_or(&metric))
        });
        let mut points = self.points.clone();
        for point in &mut points {
            point.metrics = kept.iter().map(|&m| point.metrics[m]).collect();
        }
        Ok(Some(FrontSection::measure(names, points)?))
    }
}
