//! Rows to predict, and a model's predictions for them.

use candle_core::Tensor;
use paretune_data::Part;
use paretune_objectives::Objectives;
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, Recommender, Viewer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Candidates;
use crate::{TrainError, plan::LabelColumn};

/// Rows of one part of the split: who met what, and what came of it.
#[derive(Debug, Clone)]
pub struct Rows {
    /// User of each row.
    pub users: Vec<u32>,
    /// Item of each row.
    pub items: Vec<u32>,
    /// Clock of each row.
    pub clocks: Vec<i64>,
    /// For each objective the label of each row, `NaN` where not observed.
    pub labels: Vec<Vec<f32>>,
    /// Whether the item has no engagement in training.
    pub cold: Vec<bool>,
    train: bool,
    /// Whether rows were sampled beside those of the log.
    pub sampled: bool,
}

/// Rows of a request are predicted together, this many requests at a time.
const REQUESTS: usize = 256;
/// Batches that are made side by side.
const BATCHES: usize = 64;

impl Rows {
    /// The rows of `part` among the [usual](Candidates::usual) candidates of the split: see [`Self::among`].
    ///
    /// # Errors
    /// As of [`Self::among`].
    pub fn new(
        corpus: &Corpus,
        objectives: &Objectives,
        part: Part,
        negatives: usize,
        limit: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let candidates = Candidates::usual(corpus.split.strategy(), part);
        Self::among(candidates, corpus, objectives, part, negatives, limit, seed)
    }

    /// The rows of `part` whose item is a candidate, at most about `limit` of them (evenly thinned, whole requests), each followed by
    /// `negatives` candidates drawn uniformly without those the user ever engaged with. Where all items are candidates, those unseen in
    /// training are drawn as well: else being unseen would give the positives away.
    ///
    /// # Errors
    /// A part without such rows, an engagement column that does not exist.
    pub fn among(
        candidates: Candidates,
        corpus: &Corpus,
        objectives: &Objectives,
        part: Part,
        negatives: usize,
        limit: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let among = candidates.items(corpus, part);
        let columns = LabelColumn::all(objectives);
        let events = &corpus.dataset.events;
        let engaged = engagement(corpus);
        let all = corpus.split.rows(part);
        let every = (all.len() * (1 + negatives)).div_ceil(limit.max(1)).max(1);
        let mut rows = Self {
            users: Vec::new(),
            items: Vec::new(),
            clocks: Vec::new(),
            labels: vec![Vec::new(); columns.len()],
            cold: Vec::new(),
            train: part == Part::Train,
            sampled: negatives > 0,
        };
        let (mut request, mut last) = (0usize, None);
        for row in all {
            let (user, clock) = (events.user[row as usize], corpus.split.clock[row as usize]);
            if last != Some((user, clock)) {
                last = Some((user, clock));
                request += 1;
            }
            // The first request always stays.
            if !(request - 1).is_multiple_of(every) || among.binary_search(&events.item[row as usize]).is_err() {
                continue;
            }
            rows.push(
                user,
                events.item[row as usize],
                clock,
                &engaged,
                columns.iter().map(|column| column.value(corpus, row)),
            );
            for item in others(corpus, &among, user, row, negatives, seed) {
                rows.push(user, item, clock, &engaged, columns.iter().map(|column| column.negative));
            }
        }
        if rows.users.is_empty() {
            let why = match candidates {
                Candidates::All => "choose another split or larger shares, or import more data".into(),
                _ => format!(
                    "none of its rows is of a candidate: set evaluation.candidates = \"all\" in place of \"{}\"",
                    candidates.name()
                ),
            };
            return Err(TrainError::Empty { part: part.name(), why });
        }
        // Without the first there is no second: an impression that was not clicked did not convert, whatever the log left empty.
        objectives.apply_conditions(&mut rows.labels)?;
        Ok(rows)
    }

    fn push(&mut self, user: u32, item: u32, clock: i64, engaged: &[u32], labels: impl Iterator<Item = f32>) {
        self.users.push(user);
        self.items.push(item);
        self.clocks.push(clock);
        self.cold.push(engaged[item as usize] == 0);
        self.labels.iter_mut().zip(labels).for_each(|(column, label)| column.push(label));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Batches over all rows, in order, rows of one request sharing it; some of them at a time are in memory.
    pub(super) fn batches<'a>(&'a self, corpus: &'a Corpus) -> impl Iterator<Item = Batch> + 'a {
        let mut starts = Vec::new();
        let mut requests = 0usize;
        for at in 0..self.len() {
            let new = at == 0 || (self.users[at], self.clocks[at]) != (self.users[at - 1], self.clocks[at - 1]);
            if new {
                if requests.is_multiple_of(REQUESTS) {
                    starts.push(at);
                }
                requests += 1;
            }
        }
        let ends = starts.iter().skip(1).copied().chain([self.len()]);
        let ranges: Vec<(usize, usize)> = starts.iter().copied().zip(ends).collect();
        (0..ranges.len().div_ceil(BATCHES)).flat_map(move |block| {
            let block = &ranges[block * BATCHES..ranges.len().min((block + 1) * BATCHES)];
            block.par_iter().map(|(start, end)| self.batch(corpus, *start, *end)).collect::<Vec<_>>()
        })
    }

    fn batch(&self, corpus: &Corpus, start: usize, end: usize) -> Batch {
        let mut builder = BatchBuilder::new(corpus, 0);
        let mut request = 0;
        for at in start..end {
            let key = (self.users[at], self.clocks[at]);
            if at == start || key != (self.users[at - 1], self.clocks[at - 1]) {
                request = builder.request(&Viewer::Known { user: key.0, clock: key.1, train_only: self.train });
            }
            builder.sample(request, self.items[at], 0, []);
        }
        builder.build(Encode::Nothing)
    }
}

/// Distinct candidates that the user never engaged with, drawn for one row.
fn others(corpus: &Corpus, among: &[u32], user: u32, row: u32, n: usize, seed: u64) -> Vec<u32> {
    let items = among.len() as u32;
    let mut drawn = Vec::with_capacity(n);
    if n == 0 || items == 0 {
        return drawn;
    }
    let own = corpus.histories.engaged_items(user, false);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0e7a_1000);
    rng.set_stream(u64::from(row));
    for _ in 0..10 * n {
        let item = among[rng.random_range(0..items) as usize];
        if own.binary_search(&item).is_err() && !drawn.contains(&item) {
            drawn.push(item);
            if drawn.len() == n {
                break;
            }
        }
    }
    drawn
}

/// How often each item was engaged with in training.
pub(crate) fn engagement(corpus: &Corpus) -> Vec<u32> {
    corpus.summary().engagement().to_vec()
}

/// A model's predictions `[objective][row]` in natural units. `known` are the catalogue's vectors.
///
/// # Errors
/// When the model fails.
pub fn predict(model: &Recommender, corpus: &Corpus, known: &Tensor, rows: &Rows) -> Result<Vec<Vec<f32>>, TrainError> {
    predict_telling(model, corpus, known, rows, &mut |_| {})
}

/// As [`predict`], telling how many rows are done.
///
/// # Errors
/// When the model fails.
pub fn predict_telling(
    model: &Recommender,
    corpus: &Corpus,
    known: &Tensor,
    rows: &Rows,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, TrainError> {
    Ok(predict_for(model, corpus, known, rows, &[None], done)?.remove(0))
}

/// As [`predict_telling`], for each of several preferences of a model with conditioning (`None`: its own): `[preference][objective][row]`.
/// What does not depend on the preference is computed once.
///
/// # Errors
/// When the model fails, or does not take such a preference.
pub(crate) fn predict_for(
    model: &Recommender,
    corpus: &Corpus,
    known: &Tensor,
    rows: &Rows,
    preferences: &[Option<&[f64]>],
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
    let mut all = vec![vec![Vec::new(); rows.labels.len()]; preferences.len()];
    let mut told = 0;
    for mut batch in rows.batches(corpus) {
        told += batch.len();
        let trunk = model.trunk(&batch, known, None)?;
        for (columns, preference) in all.iter_mut().zip(preferences) {
            batch.preference = preference.map(<[f64]>::to_vec);
            let shared = model.condition(trunk.clone(), &batch)?;
            let predictions = model.outputs(&shared, &batch, None)?.predictions()?;
            columns.iter_mut().zip(predictions).for_each(|(column, part)| column.extend(part));
        }
        done(told);
    }
    Ok(all)
}
