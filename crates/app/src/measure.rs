//! A trained model beside its baselines, on the test part.

mod front;
mod trained;

use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;
use paretune_data::Part;
use paretune_eval::better_is_higher;
use paretune_eval::report::{Cell, FrontPoint, Reliability, Table};
use paretune_objectives::{Conditioning, Kind, Objective};
use paretune_recommender::{
    Ease, EaseConfig, Interactions, ItemKnn, ItemKnnConfig, ItemSource, Mf, MfConfig, Recommender, Scorer,
};
use paretune_train::evaluation::{
    Calibration, Candidates, Metrics, Ranked, Ranking, Rows, baselines, list_metric_at, predict, primary_metric,
};
use serde::Serialize;

use crate::{
    config::Baseline,
    fit::Fit,
    job::{Job, Variant},
    listening,
    progress::Show,
};

/// Rows that popularity and item means are fitted on, at most.
const FIT_ROWS: usize = 500_000;

/// Order in which methods stand in tables.
pub(crate) const METHODS: [&str; 11] = [
    "model",
    "calibrated",
    "untrained",
    "popularity",
    "item_mean",
    "item_knn",
    "ease",
    "mf",
    "single_objective",
    "ids",
    "random",
];

/// The test part, and what has been measured on it so far.
pub(crate) struct Bench<'a> {
    job: &'a Job,
    rows: Rows,
    ranking: Ranking<'a>,
    /// Vectors that measure diversity, the same for every method: those of the model before training.
    vectors: Vec<f32>,
    /// Whether models on the front differ by how many layers read texts.
    exits: bool,
    /// Models trained with different weights, for the front.
    points: Vec<FrontPoint>,
    /// What makes the trained model's probabilities frequencies.
    calibration: Option<Calibration>,
    /// Whether they are, before and after.
    pub(crate) reliability: Vec<Reliability>,
    pub(crate) metrics: Metrics,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(job: &'a Job) -> anyhow::Result<Self> {
        let config = &job.config;
        let candidates = config.candidates(Part::Test);
        let rows = Rows::among(
            candidates,
            &job.corpus,
            &job.objectives,
            Part::Test,
            job.evaluation_negatives(),
            config.evaluation.rows,
            config.seed,
        )?;
        let ranking =
            Ranking::among(candidates, &job.corpus, Part::Test, config.evaluation.users, &config.evaluation.top)
                .with_goals(&job.objectives)?;
        Ok(Self {
            job,
            rows,
            ranking,
            vectors: Vec::new(),
            exits: false,
            points: Vec::new(),
            calibration: None,
            reliability: Vec::new(),
            metrics: Metrics::default(),
        })
    }

    /// Test rows, and users ranked for.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.rows.len(), self.ranking.len())
    }

    /// Keeps the vectors of the model before training, which knows the items as `known`, to measure diversity by.
    pub(crate) fn keep_vectors(&mut self, untrained: &Recommender, known: &Tensor) -> anyhow::Result<()> {
        let compared = untrained.list_facts().and_then(|facts| facts.vectors());
        if let Some(vectors) = compared {
            self.vectors = vectors.flatten_all()?.to_vec1()?;
        } else if self.job.config.model.items != ItemSource::Ids {
            self.vectors = known.flatten_all()?.to_vec1()?;
        }
        Ok(())
    }

    /// Measures the model as it is before training.
    pub(crate) fn untrained(&mut self, model: &Recommender) -> anyhow::Result<()> {
        let known = model.embed(&self.job.corpus.tokens, None)?;
        self.keep_vectors(model, &known)?;
        if self.wants(Baseline::Untrained) {
            self.model("untrained", model, &known)?;
        }
        Ok(())
    }

    /// Measures a model under a name; its predictions for the test rows come back.
    pub(crate) fn model(
        &mut self,
        method: &str,
        model: &Recommender,
        known: &Tensor,
    ) -> anyhow::Result<Vec<Option<Vec<f32>>>> {
        let job = self.job;
        let predictions = predict(model, &job.corpus, known, &self.rows)?;
        let predictions: Vec<Option<Vec<f32>>> = predictions.into_iter().map(Some).collect();
        self.metrics.add(method, &job.objectives, &self.rows, &predictions);
        let ranked = self.ranking.model(model, &job.objectives, known, &job.config.rank_weights(), &self.vectors)?;
        self.ranked(method, ranked);
        for objective in job.objectives.iter().filter(|objective| objective.kind == Kind::Cost) {
            let Some(width) = model.kept_width()? else { continue };
            let table = self.metrics.objectives.entry(objective.name.clone()).or_default();
            Metrics::add_to(table, method, [(primary_metric(objective).to_owned(), width)].into());
        }
        Ok(predictions)
    }

    /// Measures popularity and item means.
    pub(crate) fn without_model(&mut self) -> anyhow::Result<()> {
        let job = self.job;
        let corpus = &job.corpus;
        let negatives = job.evaluation_negatives();
        let train = Rows::new(corpus, &job.objectives, Part::Train, negatives, FIT_ROWS, job.config.seed)?;
        for (baseline, method) in [(Baseline::Popularity, "popularity"), (Baseline::ItemMean, "item_mean")] {
            if !self.wants(baseline) {
                continue;
            }
            let fit = if baseline == Baseline::Popularity { baselines::popularity } else { baselines::item_mean };
            let predictions: Vec<_> = job
                .objectives
                .iter()
                .enumerate()
                .map(|(k, objective)| fit(corpus, objective, k, &train, &self.rows))
                .collect();
            self.metrics.add(method, &job.objectives, &self.rows, &predictions);
        }
        self.classic()?;
        // Among items that nobody has met there is no popularity.
        let scores = baselines::popularity_scores(corpus);
        if self.wants(Baseline::Popularity) && self.ranking.tells_apart(&scores) {
            let ranked = self.ranking.fixed(&scores, &self.vectors)?;
            self.ranked("popularity", ranked);
        }
        if self.wants(Baseline::Random) {
            let ranked = self.ranking.random(job.config.seed, &self.vectors)?;
            self.ranked("random", ranked);
        }
        Ok(())
    }

    /// Measures the rankings of models that are fitted without gradients.
    fn classic(&mut self) -> anyhow::Result<()> {
        let corpus = &self.job.corpus;
        let wanted =
            [Baseline::ItemKnn, Baseline::Ease, Baseline::Mf].into_iter().filter(|baseline| self.wants(*baseline));
        for baseline in wanted.collect::<Vec<_>>() {
            let log = Interactions::of(&corpus.dataset, &corpus.split, &corpus.config.engaged)?;
            let (method, scorer): (_, Box<dyn Scorer>) = match baseline {
                Baseline::ItemKnn => ("item_knn", Box::new(ItemKnn::fit(&log, &ItemKnnConfig::default())?)),
                Baseline::Ease => ("ease", Box::new(Ease::fit(&log, &EaseConfig::default())?)),
                _ => ("mf", Box::new(Mf::fit(&log, &MfConfig { seed: self.job.config.seed, ..MfConfig::default() })?)),
            };
            let ranked = self.ranking.scorer(scorer.as_ref(), &self.vectors)?;
            self.ranked(method, ranked);
        }
        Ok(())
    }

    /// Trains and measures one model for each objective alone, and the same model with ids in place of text; for so many passes where
    /// there is no validation to choose them by.
    pub(crate) fn trained_baselines(
        &mut self,
        checkpoints: &Path,
        until: Option<f64>,
        show: Show,
    ) -> anyhow::Result<()> {
        let job = self.job;
        let weights = job.weights();
        if self.wants(Baseline::SingleObjective) && weights.iter().filter(|weight| **weight > 0.0).count() > 1 {
            // Of what has no labels there is nothing to train alone.
            let trained = |(k, objective): &(usize, &Objective)| weights[*k] > 0.0 && objective.kind.has_labels();
            for (k, objective) in job.objectives.iter().enumerate().filter(trained) {
                let alone: Vec<f64> = (0..weights.len()).map(|other| f64::from(u8::from(other == k))).collect();
                let label = format!("{} alone", objective.name);
                let folder = checkpoints.join(format!("alone-{}", objective.name));
                // It knows one balance only.
                let plain = Variant { conditioning: Conditioning::None, ..job.variant() };
                let (model, _) = Fit { until, ..Fit::new(plain, &alone, &folder, &label) }.run(job, show)?;
                let known = model.embed(&job.corpus.tokens, None)?;
                self.point(&label, &alone, &model, &known)?;
                let mut predictions = predict(&model, &job.corpus, &known, &self.rows)?;
                let only = (0..weights.len())
                    .map(|other| (other == k).then(|| std::mem::take(&mut predictions[k])))
                    .collect::<Vec<_>>();
                self.metrics.add("single_objective", &job.objectives, &self.rows, &only);
            }
        }
        let alone = job.config.model.items == ItemSource::Ids && job.config.model.vectors.is_empty();
        if self.wants(Baseline::Ids) && !alone {
            let ids = Variant { items: ItemSource::Ids, given: false, ..job.variant() };
            let folder = checkpoints.join("ids");
            let (model, _) = Fit { until, ..Fit::new(ids, &weights, &folder, "ids") }.run(job, show)?;
            let known = model.embed(&job.corpus.tokens, None)?;
            self.model("ids", &model, &known)?;
        }
        Ok(())
    }

    fn wants(&self, baseline: Baseline) -> bool {
        self.job.config.evaluation.baselines.contains(&baseline)
    }

    fn ranked(&mut self, method: &str, ranked: Ranked) {
        if ranked.users > 0 {
            for objective in &self.job.objectives {
                let value = list_metric_at(objective, self.cut()).and_then(|name| ranked.list.get(&name).copied());
                if let Some(value) = value {
                    let table = self.metrics.objectives.entry(objective.name.clone()).or_default();
                    Metrics::add_to(table, method, [(primary_metric(objective).to_owned(), value)].into());
                }
            }
            self.metrics.add_ranked(method, ranked);
        }
    }

    /// Tables for the terminal and the report: objectives, ranking, lists, unseen items.
    pub(crate) fn tables(&self) -> Vec<Table> {
        tables(&self.metrics, self.job)
    }

    /// One sentence for each objective, and whether the model is ahead of both untrained and popularity everywhere.
    pub(crate) fn verdicts(&self) -> (Vec<String>, bool) {
        let mut all = true;
        let mut lines = Vec::new();
        for objective in self.job.objectives.iter().filter(|objective| objective.weight > 0.0) {
            let metric = primary_metric(objective);
            let Some(model) = self.metrics.primary(objective, "model") else {
                lines.push(format!("{}: the test part holds too few labels to measure {metric}", objective.name));
                all = false;
                continue;
            };
            let mut parts = Vec::new();
            for method in ["untrained", "popularity", "item_mean"] {
                let Some(value) = self.metrics.primary(objective, method) else { continue };
                let ahead = if better_is_higher(metric) { model > value } else { model < value };
                // Lists of anything at all are varied: what a goal costs and brings is the front's to say.
                if method != "item_mean" && objective.kind.has_labels() {
                    all &= ahead;
                }
                let verb = if ahead { "beats" } else { "does not beat" };
                parts.push(format!("{verb} {} ({value:.4})", method.replace('_', " ")));
            }
            lines.push(format!("{}: {metric} {model:.4} {}", objective.name, parts.join(", ")).trim_end().to_owned());
        }
        (lines, all)
    }
}

fn tables(metrics: &Metrics, job: &Job) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut values = new_table("Objectives", &["objective", "metric"]).note("Test part; best of each row marked.");
    for objective in job.objectives.iter() {
        for (metric, row) in metrics.objectives.get(&objective.name).into_iter().flatten() {
            values = values.compare(&[objective.name.as_str()], metric, &cells(row));
        }
    }
    tables.push(values);
    let impressions = !metrics.shown.is_empty();
    for (title, note, table) in [
        ("Ranking what was shown", "Each test request's own items, ranked again.", &metrics.shown),
        (
            match job.config.candidates(Part::Test) {
                Candidates::All => "Ranking the whole catalogue",
                Candidates::Seen => "Ranking the items that training met",
                Candidates::Unseen => "Ranking the items unseen in training",
            },
            if impressions {
                "Logged engagement lies where the logging system showed items; popularity is what it followed."
            } else {
                ""
            },
            &metrics.ranking,
        ),
        ("The lists as lists", "", &metrics.list),
    ] {
        if !table.is_empty() {
            let mut rows = new_table(title, &["metric"]).note(note);
            for (metric, row) in table {
                rows = rows.compare(&[], metric, &cells(row));
            }
            tables.push(rows);
        }
    }
    for (by, title, note, of) in [
        (
            "item",
            "Ranking by how often training met the item",
            "Relevant items of one bucket alone; the rankings are the same.",
            &metrics.by_item,
        ),
        ("user", "Ranking by the length of the user's history", "Users of one bucket alone.", &metrics.by_user),
    ] {
        let mut rows = new_table(title, &["seen", "of", "metric"]).note(note);
        for bucket in metrics.buckets.iter().filter(|bucket| bucket.by == by) {
            let size = if by == "item" { bucket.relevant } else { bucket.users }.to_string();
            let shown = of.get(&bucket.name).into_iter().flatten();
            for (metric, row) in shown.filter(|(metric, _)| metric.starts_with("ndcg") || metric.starts_with("recall"))
            {
                rows = rows.compare(&[bucket.name.as_str(), size.as_str()], metric, &cells(row));
            }
        }
        if !rows.rows.is_empty() {
            tables.push(rows);
        }
    }
    if !metrics.cold.is_empty() {
        let mut cold = new_table("Items unseen in training", &["objective", "metric"])
            .note("Test rows whose item nobody engaged with in training.");
        for objective in job.objectives.iter() {
            for (metric, row) in metrics.cold.get(&objective.name).into_iter().flatten() {
                cold = cold.compare(&[objective.name.as_str()], metric, &cells(row));
            }
        }
        tables.push(cold);
    }
    let mut tables: Vec<Table> = tables.into_iter().map(without_empty_columns).collect();
    tables.extend(listening::tables(&metrics.gates));
    tables
}

fn new_table(title: &str, labels: &[&str]) -> Table {
    let names = METHODS.iter().map(|method| method.replace('_', " "));
    Table::new(title, labels.iter().map(|label| (*label).to_owned()).chain(names))
}

fn cells(row: &BTreeMap<String, f64>) -> Vec<Option<f64>> {
    METHODS.iter().map(|method| row.get(*method).copied()).collect()
}

/// Drops the columns of methods that were not measured.
fn without_empty_columns(mut table: Table) -> Table {
    for column in (0..table.columns.len()).rev() {
        if table.rows.iter().all(|row| row.get(column).is_none_or(|cell| *cell == Cell::Empty)) {
            table.columns.remove(column);
            for row in &mut table.rows {
                if column < row.len() {
                    row.remove(column);
                }
            }
        }
    }
    table
}

/// What `metrics.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct MetricsFile<'a> {
    /// Name of the data set.
    pub(crate) dataset: &'a str,
    /// Text encoder the run started from.
    pub(crate) model: &'a str,
    #[serde(flatten)]
    pub(crate) metrics: &'a Metrics,
    /// Steps of the main training.
    pub(crate) steps: usize,
    /// Test rows measured, sampled negatives included.
    pub(crate) test_rows: usize,
    /// Users ranked for.
    pub(crate) ranked_users: usize,
    pub(crate) seed: u64,
    /// Wall time of the command that wrote it.
    pub(crate) seconds: f64,
}
