//! Ranking the catalogue, or a part of it, for the users of a part, as of the moment before their first event in it.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use paretune_data::{Part, SplitStrategy};
use paretune_eval::{BucketRanking, Buckets, ListAccumulator, SplitRanking, top_k};
use paretune_objectives::{Goal, Kind, Objectives};
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, ItemGroups, Recommender, Scorer, Viewer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Candidates, Ensemble, rank_weights, rows::engagement, utilities};
use crate::TrainError;

/// Users are scored in groups of this many.
const GROUP: usize = 64;
/// So many where a matrix product gives all their scores.
const RETRIEVED: usize = 512;
/// Scores that such a product makes at once, at most: fewer users where the catalogue is large.
const SCORES: usize = 1 << 24;
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
    /// Events before the clock.
    past: u32,
}

/// A model that ranks.
struct Member<'a> {
    model: &'a Recommender,
    /// The tables as this model reads them.
    corpus: &'a Corpus,
    known: &'a Tensor,
    preference: Option<&'a [f64]>,
}

/// The users of a part with something relevant to find: the items they engage with in it.
///
/// With a leave-last split every item is a candidate and nothing is masked, as sequential protocols have it; otherwise the
/// items a user engaged with in training are left out of the ranking and of what is relevant. With a split by users, their first events
/// are known and left out likewise, as many as the strategy gives.
pub struct Ranking<'a> {
    corpus: &'a Corpus,
    /// Items that are ranked, ascending; `None` for the whole catalogue.
    among: Option<Vec<u32>>,
    cases: Vec<Case>,
    popularity: Vec<f64>,
    /// Engagements in training.
    counts: Vec<u32>,
    providers: Option<Vec<Option<u32>>>,
    /// By name, groups whose exposure is some objective's goal.
    groups: Vec<(String, ItemGroups)>,
    ks: Vec<usize>,
}

/// Rankings and what they are worth.
#[derive(Debug, Clone, Default)]
pub struct Ranked {
    /// NDCG, recall, MRR, hit rate, precision and MAP at each cut-off, means over users.
    pub ranking: BTreeMap<String, f64>,
    /// Diversity, coverage, popularity and provider exposure of the lists.
    pub list: BTreeMap<String, f64>,
    /// The ranking again, of the relevant items alone that training met so often.
    pub by_item: Vec<BucketRanking>,
    /// The ranking again, of the users alone whose history is so long.
    pub by_user: Vec<BucketRanking>,
    /// Users that were ranked for.
    pub users: usize,
}

impl<'a> Ranking<'a> {
    /// Chooses at most `limit` users of `part` (evenly spread), to be measured at the cut-offs `ks`, with the
    /// [usual](Candidates::usual) candidates of the split.
    pub fn new(corpus: &'a Corpus, part: Part, limit: usize, ks: &[usize]) -> Self {
        Self::among(Candidates::usual(corpus.split.strategy(), part), corpus, part, limit, ks)
    }

    /// As [`Self::new`], ranking these candidates alone: other items are neither ranked nor looked for.
    pub fn among(candidates: Candidates, corpus: &'a Corpus, part: Part, limit: usize, ks: &[usize]) -> Self {
        let among = (candidates != Candidates::All).then(|| candidates.items(corpus, part));
        let events = &corpus.dataset.events;
        let mask = !matches!(corpus.split.strategy(), SplitStrategy::LeaveLast);
        let engaged = events.feedback.get(&corpus.config.engaged);
        let given = match corpus.split.strategy() {
            SplitStrategy::ColdUsers { given, .. } => *given,
            _ => 0,
        };
        let mut chosen: BTreeMap<u32, Vec<(i64, u32)>> = BTreeMap::new();
        for row in corpus.split.rows(part) {
            let at = row as usize;
            if engaged.is_some_and(|column| column[at] > 0.0) {
                chosen.entry(events.user[at]).or_default().push((corpus.split.clock[at], events.item[at]));
            }
        }
        // The moment of the first event to be found, and those to be found.
        let found = chosen.into_iter().filter_map(|(user, mut items)| {
            items.sort_unstable();
            let clock = items.get(given)?.0;
            let relevant = items.iter().filter(|(at, _)| *at >= clock).map(|(_, item)| *item);
            Some((user, (clock, relevant.collect::<BTreeSet<u32>>())))
        });
        let cases: Vec<Case> = found
            .filter_map(|(user, (clock, relevant))| {
                let mut masked: BTreeSet<u32> = BTreeSet::new();
                if mask {
                    masked.extend(corpus.histories.engaged_items(user, true));
                }
                if given > 0 {
                    let rows = corpus.histories.before(user, clock, usize::MAX, false);
                    masked.extend(rows.into_iter().map(|row| events.item[row as usize]));
                }
                let ranked = |item: &u32| among.as_ref().is_none_or(|items| items.binary_search(item).is_ok());
                let relevant: Vec<u32> = relevant.difference(&masked).copied().filter(ranked).collect();
                let past = corpus.histories.before(user, clock, usize::MAX, false).len() as u32;
                let masked = masked.into_iter().collect();
                (!relevant.is_empty()).then_some(Case { user, clock, relevant, masked, past })
            })
            .collect();
        let counts = engagement(corpus);
        let every = cases.len().div_ceil(limit.max(1)).max(1);
        let mut cases: Vec<Case> = cases.into_iter().step_by(every).collect();
        cases.sort_by_key(|case| (case.clock, case.user));
        Self {
            among,
            cases,
            popularity: counts.iter().copied().map(f64::from).collect(),
            counts,
            providers: providers(corpus),
            groups: Vec::new(),
            corpus,
            ks: ks.to_vec(),
        }
    }

    /// Measures besides what the objectives' goals of lists ask for ([`list_metric_at`](super::list_metric_at)).
    ///
    /// # Errors
    /// Groups of which the items know nothing.
    pub fn with_goals(mut self, objectives: &Objectives) -> Result<Self, TrainError> {
        for objective in objectives {
            if let Some(goal) = objective.goal.as_ref().filter(|goal| goal.name == Goal::Exposure) {
                self.groups.push((objective.name.clone(), ItemGroups::new(self.corpus, goal)?));
            }
        }
        Ok(self)
    }

    /// How novel a list can be, in bits: of items that nobody engaged with.
    pub(crate) fn most_novel(&self) -> f64 {
        self.popularity.iter().map(|count| count + 1.0).sum::<f64>().log2()
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is nobody to rank for.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Ranks by a weighted sum of a model's standardised scores (see [`utilities()`]). `vectors`, row-major and of one width,
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
        let member = Member { model, corpus: self.corpus, known, preference };
        self.by(&[member], objectives, weights, vectors, |mut models| models.remove(0))
    }

    /// Ranks by what several models say together, each as [`Self::model`] has it. A model comes with the tables as it reads them (of the
    /// same users and items) and with its catalogue's vectors.
    ///
    /// # Errors
    /// When a model fails.
    pub fn ensemble(
        &self,
        models: &[(&Recommender, &Corpus, &Tensor)],
        how: Ensemble,
        objectives: &Objectives,
        weights: &[f64],
        vectors: &[f32],
    ) -> Result<Ranked, TrainError> {
        let member = |&(model, corpus, known)| Member { model, corpus, known, preference: None };
        let members: Vec<Member<'_>> = models.iter().map(member).collect();
        self.by(&members, objectives, weights, vectors, |models| how.combine(&models))
    }

    /// Ranks by what `combine` makes of the utilities `[model][item]` of each case.
    fn by(
        &self,
        members: &[Member<'_>],
        objectives: &Objectives,
        weights: &[f64],
        vectors: &[f32],
        combine: impl Fn(Vec<Vec<f32>>) -> Vec<f32> + Sync,
    ) -> Result<Ranked, TrainError> {
        let weights = &rank_weights(objectives, weights);
        let mut measured = self.measure(vectors)?;
        // Scores of user and item do not look at the moment, and are one matrix product for many users.
        let asked = || objectives.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
        let retrieves = asked().count() > 0 && asked().all(|(objective, _)| objective.kind == Kind::Ranking);
        let retrieved = (SCORES / self.popularity.len().max(1)).clamp(1, RETRIEVED);
        let (windows, group) = if retrieves { (1, retrieved) } else { (WINDOWS, GROUP) };
        for window in self.cases.chunks(self.cases.len().div_ceil(windows).max(1)) {
            let catalogue = |member: &Member<'_>| member.model.catalogue(member.corpus, member.known, window[0].clock);
            let catalogues = members.iter().map(catalogue).collect::<Result<Vec<_>, _>>()?;
            for group in window.chunks(group) {
                let mut said = Vec::with_capacity(members.len());
                for (member, catalogue) in members.iter().zip(&catalogues) {
                    let mut batch = batch(member.corpus, group);
                    batch.preference = member.preference.map(<[f64]>::to_vec);
                    said.push(match retrieves {
                        true => member.model.retrieve(catalogue, &batch, member.known)?.to_vec2::<f32>()?,
                        false => {
                            let scores = member.model.score(catalogue, &batch, member.known)?;
                            scores.par_iter().map(|scores| utilities(objectives, scores, weights)).collect()
                        }
                    });
                }
                // From models of cases to cases of models.
                let mut cases: Vec<Vec<Vec<f32>>> = group.iter().map(|_| Vec::with_capacity(members.len())).collect();
                for model in said {
                    cases.iter_mut().zip(model).for_each(|(case, scores)| case.push(scores));
                }
                let k = measured.k;
                let top = |(case, models): (&Case, Vec<Vec<f32>>)| self.top(&combine(models), k, case);
                let tops: Vec<Vec<u32>> = group.par_iter().zip(cases).map(top).collect();
                group.iter().zip(&tops).try_for_each(|(case, top)| measured.add_top(case, top))?;
            }
        }
        Ok(measured.finish())
    }

    /// Ranks by a model without gradients, from the histories that a model of the part may see.
    ///
    /// # Errors
    /// When it does not score the whole catalogue.
    pub fn scorer(&self, scorer: &dyn Scorer, vectors: &[f32]) -> Result<Ranked, TrainError> {
        let mut measured = self.measure(vectors)?;
        let (events, k) = (&self.corpus.dataset.events, measured.k);
        for group in self.cases.chunks(RETRIEVED) {
            let top = |case: &Case| {
                let rows = self.corpus.histories.before(case.user, case.clock, usize::MAX, false);
                let history: Vec<u32> = rows.iter().map(|&row| events.item[row as usize]).collect();
                self.top(&scorer.score(&history), k, case)
            };
            let tops: Vec<Vec<u32>> = group.par_iter().map(top).collect();
            group.iter().zip(&tops).try_for_each(|(case, top)| measured.add_top(case, top))?;
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

    /// Ranks each user's candidates by chance, the same for the same seed: what knowing nothing is worth.
    ///
    /// # Errors
    /// None that is known.
    pub fn random(&self, seed: u64, vectors: &[f32]) -> Result<Ranked, TrainError> {
        let mut measured = self.measure(vectors)?;
        let items = self.corpus.dataset.items.len();
        for case in &self.cases {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7a2d_0d0e);
            rng.set_stream(u64::from(case.user));
            let scores: Vec<f32> = (0..items).map(|_| rng.random()).collect();
            measured.add(case, &scores)?;
        }
        Ok(measured.finish())
    }

    /// Whether `scores` tell any two candidates apart. A ranking by scores that do not is one by the numbers of the items.
    pub fn tells_apart(&self, scores: &[f32]) -> bool {
        let score = |item: u32| scores.get(item as usize).copied().unwrap_or(f32::NAN);
        match &self.among {
            Some(items) => items.windows(2).any(|pair| score(pair[0]) != score(pair[1])),
            None => scores.windows(2).any(|pair| pair[0] != pair[1]),
        }
    }

    /// The best `k` candidates that are not masked, by scores of the whole catalogue.
    fn top(&self, scores: &[f32], k: usize, case: &Case) -> Vec<u32> {
        let Some(items) = &self.among else { return top_k(scores, k, &case.masked) };
        let place = |item: &u32| items.binary_search(item).ok().map(|place| place as u32);
        let masked: Vec<u32> = case.masked.iter().filter_map(place).collect();
        let scores: Vec<f32> =
            items.iter().map(|&item| scores.get(item as usize).copied().unwrap_or(f32::NAN)).collect();
        top_k(&scores, k, &masked).into_iter().map(|place| items[place as usize]).collect()
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
        for (name, groups) in &self.groups {
            list = list.with_due(name.as_str(), &groups.of, &groups.due)?;
        }
        let by_item = SplitRanking::new(&self.ks, Buckets::default());
        let by_user = SplitRanking::new(&self.ks, Buckets::default());
        Ok(Measured { by_item, by_user, of: self, list, k, users: 0 })
    }
}

fn batch(corpus: &Corpus, group: &[Case]) -> Batch {
    let mut builder = BatchBuilder::new(corpus, 0);
    for case in group {
        builder.request(&Viewer::Known { user: case.user, clock: case.clock, train_only: false });
    }
    builder.build(Encode::Nothing)
}

struct Measured<'a> {
    by_item: SplitRanking,
    by_user: SplitRanking,
    of: &'a Ranking<'a>,
    list: ListAccumulator<'a>,
    k: usize,
    users: usize,
}

impl Measured<'_> {
    fn add(&mut self, case: &Case, scores: &[f32]) -> Result<(), TrainError> {
        self.add_top(case, &self.of.top(scores, self.k, case))
    }

    fn add_top(&mut self, case: &Case, top: &[u32]) -> Result<(), TrainError> {
        self.by_item.add_user(top, &case.relevant, |item| self.of.counts[item as usize]);
        self.by_user.add_user(top, &case.relevant, |_| case.past);
        self.list.add_user(top)?;
        self.users += 1;
        Ok(())
    }

    fn finish(self) -> Ranked {
        Ranked {
            ranking: self.by_item.whole().finish(),
            by_item: self.by_item.finish(),
            by_user: self.by_user.finish(),
            list: self.list.finish(),
            users: self.users,
        }
    }
}

fn providers(corpus: &Corpus) -> Option<Vec<Option<u32>>> {
    let column = corpus.dataset.items.provider.as_ref()?;
    let names: BTreeSet<&str> = column.iter().flatten().map(String::as_str).collect();
    let index: BTreeMap<&str, u32> = names.into_iter().zip(0..).collect();
    Some(column.iter().map(|name| index.get(name.as_deref()?).copied()).collect())
}
