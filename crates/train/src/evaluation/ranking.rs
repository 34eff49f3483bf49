//! Ranking the whole catalogue for the users of a part, as of the moment before their first event in it.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use paretune_data::{Part, SplitStrategy};
use paretune_eval::{ListAccumulator, RankingAccumulator, top_k};
use paretune_objectives::{Kind, Objectives};
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, Recommender, Viewer};

use super::rows::engagement;
use crate::TrainError;

/// Users are scored in groups of this many.
const GROUP: usize = 64;
/// Users are sorted by clock and dealt into this many windows; within one, items stand as of its first clock. So nobody is shown
/// an item's future, and its past is at most a window old.
const WINDOWS: usize = 16;

/// One user to rank for.
#[derive(Debug, Clone)]
struct Case {
    user: u32,
    clock: i64,
    relevant: Vec<u32>,
    masked: Vec<u32>,
}

/// The users of a part with something relevant to find: the items they engage with in it.
///
/// With a leave-last split every item is a candidate and nothing is masked, as sequential protocols have it; otherwise the
/// items a user engaged with in training are left out of the ranking and of what is relevant.
pub struct Ranking<'a> {
    corpus: &'a Corpus,
    cases: Vec<Case>,
    popularity: Vec<f64>,
    providers: Option<Vec<Option<u32>>>,
    ks: Vec<usize>,
}

/// Rankings and what they are worth.
#[derive(Debug, Clone, Default)]
pub struct Ranked {
    /// NDCG, recall, MRR, hit rate, precision and MAP at each cut-off, means over users.
    pub ranking: BTreeMap<String, f64>,
    /// Diversity, coverage, popularity and provider exposure of the lists.
    pub list: BTreeMap<String, f64>,
    /// Users that were ranked for.
    pub users: usize,
}

impl<'a> Ranking<'a> {
    /// Chooses at most `limit` users of `part` (evenly spread), to be measured at the cut-offs `ks`.
    pub fn new(corpus: &'a Corpus, part: Part, limit: usize, ks: &[usize]) -> Self {
        let events = &corpus.dataset.events;
        let mask = !matches!(corpus.split.strategy(), SplitStrategy::LeaveLast);
        let engaged = events.feedback.get(&corpus.config.engaged);
        let mut found: BTreeMap<u32, (i64, BTreeSet<u32>)> = BTreeMap::new();
        for row in corpus.split.rows(part) {
            let at = row as usize;
            if engaged.is_some_and(|column| column[at] > 0.0) {
                let clock = corpus.split.clock[at];
                let entry = found.entry(events.user[at]).or_insert((clock, BTreeSet::new()));
                entry.0 = entry.0.min(clock);
                entry.1.insert(events.item[at]);
            }
        }
        let cases: Vec<Case> = found
            .into_iter()
            .filter_map(|(user, (clock, relevant))| {
                let masked: BTreeSet<u32> = if mask {
                    corpus.histories.engaged_items(user, true).into_iter().collect()
                } else {
                    BTreeSet::new()
                };
                let relevant: Vec<u32> = relevant.difference(&masked).copied().collect();
                (!relevant.is_empty()).then(|| Case { user, clock, relevant, masked: masked.into_iter().collect() })
            })
            .collect();
        let every = cases.len().div_ceil(limit.max(1)).max(1);
        let mut cases: Vec<Case> = cases.into_iter().step_by(every).collect();
        cases.sort_by_key(|case| (case.clock, case.user));
        Self {
            cases,
            popularity: engagement(corpus).into_iter().map(f64::from).collect(),
            providers: providers(corpus),
            corpus,
            ks: ks.to_vec(),
        }
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is nobody to rank for.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Ranks by a weighted sum of a model's standardised scores (see [`utilities`]). `vectors`, row-major and of one width,
    /// measure diversity: the same for every method that is compared.
    ///
    /// # Errors
    /// When the model fails.
    pub fn model(
        &self,
        model: &Recommender,
        objectives: &Objectives,
        known: &Tensor,
        weights: &[f64],
        vectors: &[f32],
    ) -> Result<Ranked, TrainError> {
        self.model_for(None, model, objectives, known, weights, vectors)
    }

    /// As [`Self::model`], for a preference of a model with conditioning (`None`: its own).
    ///
    /// # Errors
    /// When the model fails, or does not take such a preference.
    pub(crate) fn model_for(
        &self,
        preference: Option<&[f64]>,
        model: &Recommender,
        objectives: &Objectives,
        known: &Tensor,
        weights: &[f64],
        vectors: &[f32],
    ) -> Result<Ranked, TrainError> {
        let mut measured = self.measure(vectors)?;
        for window in self.cases.chunks(self.cases.len().div_ceil(WINDOWS).max(1)) {
            let catalogue = model.catalogue(self.corpus, known, window[0].clock)?;
            for group in window.chunks(GROUP) {
                let mut batch = self.batch(group);
                batch.preference = preference.map(<[f64]>::to_vec);
                let scores = model.score(&catalogue, &batch, known)?;
                for (case, predictions) in group.iter().zip(&scores) {
                    measured.add(case, &utilities(objectives, predictions, weights))?;
                }
            }
        }
        Ok(measured.finish())
    }

    /// Ranks every user by the same scores, for example popularity.
    ///
    /// # Errors
    /// When there is not one score per item.
    pub fn fixed(&self, scores: &[f32], vectors: &[f32]) -> Result<Ranked, TrainError> {
        let mut measured = self.measure(vectors)?;
        for case in &self.cases {
            measured.add(case, scores)?;
        }
        Ok(measured.finish())
    }

    fn batch(&self, group: &[Case]) -> Batch {
        let mut builder = BatchBuilder::new(self.corpus, 0);
        for case in group {
            builder.request(&Viewer::Known { user: case.user, clock: case.clock, train_only: false });
        }
        builder.build(Encode::Nothing)
    }

    fn measure<'b>(&'b self, vectors: &'b [f32]) -> Result<Measured<'b>, TrainError> {
        let items = self.corpus.dataset.items.len();
        let k = self.ks.iter().copied().max().unwrap_or(10);
        let mut list =
            ListAccumulator::new(items, self.ks.first().copied().unwrap_or(10)).with_popularity(&self.popularity)?;
        if !vectors.is_empty() {
            list = list.with_vectors(vectors, vectors.len() / items.max(1))?;
        }
        if let Some(providers) = &self.providers {
            list = list.with_providers(providers)?;
        }
        Ok(Measured { ranking: RankingAccumulator::new(&self.ks), list, k, users: 0 })
    }
}

struct Measured<'a> {
    ranking: RankingAccumulator,
    list: ListAccumulator<'a>,
    k: usize,
    users: usize,
}

impl Measured<'_> {
    fn add(&mut self, case: &Case, scores: &[f32]) -> Result<(), TrainError> {
        let top = top_k(scores, self.k, &case.masked);
        self.ranking.add_user(&top, &case.relevant);
        self.list.add_user(&top)?;
        self.users += 1;
        Ok(())
    }

    fn finish(self) -> Ranked {
        Ranked { ranking: self.ranking.finish(), list: self.list.finish(), users: self.users }
    }
}

fn providers(corpus: &Corpus) -> Option<Vec<Option<u32>>> {
    let column = corpus.dataset.items.provider.as_ref()?;
    let names: BTreeSet<&str> = column.iter().flatten().map(String::as_str).collect();
    let index: BTreeMap<&str, u32> = names.into_iter().zip(0..).collect();
    Some(column.iter().map(|name| index.get(name.as_deref()?).copied()).collect())
}

/// One score for each item from the predictions `[objective][item]` of one request: `Σ_k w_k z_k`, where `z_k` is the
/// objective's prediction (log-odds for probabilities, logs for times) standardised over the catalogue, so that weights mean the
/// same whatever an objective's unit.
pub fn utilities(objectives: &Objectives, predictions: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let items = predictions.first().map_or(0, Vec::len);
    let mut total = vec![0.0f32; items];
    for ((objective, prediction), weight) in objectives.iter().zip(predictions).zip(weights) {
        if *weight == 0.0 {
            continue;
        }
        let raw: Vec<f64> = prediction
            .iter()
            .map(|&value| match objective.kind {
                Kind::Binary | Kind::Conditional => {
                    let p = f64::from(value).clamp(1e-12, 1.0 - 1e-7);
                    (p / (1.0 - p)).ln()
                }
                Kind::Regression => f64::from(value),
                Kind::LogRegression => f64::from(value.max(0.0)).ln_1p(),
            })
            .collect();
        let n = raw.len().max(1) as f64;
        let mean = raw.iter().sum::<f64>() / n;
        let deviation = (raw.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-9);
        total.iter_mut().zip(&raw).for_each(|(sum, x)| *sum += (weight * (x - mean) / deviation) as f32);
    }
    total
}
