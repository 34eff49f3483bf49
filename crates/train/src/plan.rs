//! Which samples make which batch: a function of seed, epoch and number, so that a resumed run meets the same batches.

use paretune_data::Part;
use paretune_objectives::{Kind, Objectives};
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, Viewer};
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;

use crate::{HistoryMode, TrainError, TrainingConfig, evaluation::engagement};

/// The batches of a training run.
///
/// Rows of one user with one clock (a request) stay together: the user is represented once for all of them.
pub struct Plan<'a> {
    corpus: &'a Corpus,
    columns: Vec<LabelColumn>,
    /// Rows `train[start..end]` of each request.
    groups: Vec<(u32, u32)>,
    train: Vec<u32>,
    groups_per_batch: usize,
    negatives: usize,
    pool: usize,
    hide: f64,
    /// Items that can be negatives: those somebody engaged with in training.
    candidates: Vec<u32>,
    encode: Encode,
    epochs: usize,
    max_steps: usize,
    seed: u64,
}

/// Where an objective's labels come from and what a sampled negative gets.
#[derive(Debug, Clone)]
pub(crate) struct LabelColumn {
    pub(crate) column: String,
    pub(crate) negative: f32,
}

impl LabelColumn {
    pub(crate) fn all(objectives: &Objectives) -> Vec<Self> {
        objectives
            .iter()
            .map(|objective| Self {
                column: objective.column.clone(),
                // Not interacting is a "no" to what is yes or no; it says nothing about a rating or a time.
                negative: match objective.kind {
                    Kind::Binary | Kind::Conditional => 0.0,
                    Kind::Regression | Kind::LogRegression => f32::NAN,
                },
            })
            .collect()
    }

    pub(crate) fn value(&self, corpus: &Corpus, row: u32) -> f32 {
        corpus.dataset.events.feedback.get(&self.column).map_or(f32::NAN, |column| column[row as usize])
    }
}

impl<'a> Plan<'a> {
    /// Plans `config.epochs` passes over the training rows.
    ///
    /// # Errors
    /// No training row, or a batch of nothing.
    pub fn new(
        corpus: &'a Corpus,
        objectives: &Objectives,
        config: &TrainingConfig,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let train = corpus.split.rows(Part::Train);
        if train.is_empty() {
            return Err(TrainError::Empty { part: "train", why: "widen the split or import more data".into() });
        }
        for (field, value) in
            [("learning_rate", config.learning_rate), ("backbone_learning_rate", config.backbone_learning_rate)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(TrainError::BadConfig { field, value: value.to_string(), problem: "must be positive" });
            }
        }
        for (field, value) in [("batch", config.batch), ("epochs", config.epochs), ("accumulate", config.accumulate)] {
            if value == 0 {
                return Err(TrainError::BadConfig { field, value: "0".into(), problem: "must be at least 1" });
            }
        }
        let events = &corpus.dataset.events;
        let key = |row: u32| (events.user[row as usize], corpus.split.clock[row as usize]);
        let mut groups: Vec<(u32, u32)> = Vec::new();
        for (at, &row) in (0u32..).zip(&train) {
            match groups.last_mut() {
                Some((start, end)) if key(train[*start as usize]) == key(row) => *end = at + 1,
                _ => groups.push((at, at + 1)),
            }
        }
        let positives = events
            .feedback
            .get(&corpus.config.engaged)
            .map_or(0, |column| train.iter().filter(|&&row| column[row as usize] > 0.0).count());
        let samples = train.len() + positives * config.negatives;
        let per_group = samples as f64 / groups.len() as f64;
        Ok(Self {
            corpus,
            columns: LabelColumn::all(objectives),
            groups_per_batch: ((config.batch as f64 / per_group).round() as usize).max(1),
            groups,
            candidates: (0u32..)
                .zip(engagement(corpus))
                .filter(|(_, count)| *count > 0)
                .map(|(item, _)| item)
                .collect(),
            pool: config.negative_pool,
            hide: config.hide_past,
            train,
            negatives: config.negatives,
            encode: match config.history {
                HistoryMode::Cached => Encode::Shown,
                HistoryMode::Trained => Encode::ShownAndHistory,
            },
            epochs: config.epochs,
            max_steps: config.max_steps,
            seed,
        })
    }

    /// Batches of one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.groups.len().div_ceil(self.groups_per_batch)
    }

    /// Batches in all.
    pub fn steps(&self) -> usize {
        let all = self.steps_per_epoch() * self.epochs;
        if self.max_steps == 0 { all } else { all.min(self.max_steps) }
    }

    /// The order of the requests in an epoch.
    fn order(&self, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
        order.shuffle(&mut self.rng(epoch, 0));
        order
    }

    /// Batches from `step` on, to the end of its epoch.
    pub fn epoch_from(&self, step: usize) -> impl Iterator<Item = Batch> + '_ {
        let epoch = step / self.steps_per_epoch();
        let first = step % self.steps_per_epoch();
        let order = self.order(epoch);
        (first..self.steps_per_epoch()).map(move |number| {
            let end = ((number + 1) * self.groups_per_batch).min(order.len());
            self.batch(epoch, &order[number * self.groups_per_batch..end])
        })
    }

    fn batch(&self, epoch: usize, groups: &[u32]) -> Batch {
        let events = &self.corpus.dataset.events;
        let mut builder = BatchBuilder::new(self.corpus, self.columns.len());
        let engaged = events.feedback.get(&self.corpus.config.engaged);
        let mut rng = self.rng(epoch, 1 + u64::from(groups.first().copied().unwrap_or(0)));
        let pool = self.draw_pool(&mut rng);
        for &group in groups {
            let (start, end) = self.groups[group as usize];
            let rows = &self.train[start as usize..end as usize];
            let first = rows[0] as usize;
            let user = events.user[first];
            let own = if pool.is_empty() { Vec::new() } else { self.corpus.histories.engaged_items(user, true) };
            let request =
                builder.request(&Viewer::Known { user, clock: self.corpus.split.clock[first], train_only: true });
            for &row in rows {
                let position = events.position.as_ref().map_or(0, |positions| positions[row as usize]);
                let labels = self.columns.iter().map(|column| column.value(self.corpus, row));
                if rng.random::<f64>() < self.hide {
                    builder.sample_as_new(request, events.item[row as usize], position, labels);
                } else {
                    builder.sample(request, events.item[row as usize], position, labels);
                }
                if engaged.is_some_and(|column| column[row as usize] > 0.0) {
                    for item in self.negatives(&pool, &own, &mut rng) {
                        let labels = self.columns.iter().map(|column| column.negative);
                        if rng.random::<f64>() < self.hide {
                            builder.sample_as_new(request, item, 0, labels);
                        } else {
                            builder.sample(request, item, 0, labels);
                        }
                    }
                }
            }
        }
        builder.build(self.encode)
    }

    /// The items that this batch's negatives are drawn from.
    fn draw_pool(&self, rng: &mut ChaCha8Rng) -> Vec<u32> {
        if self.negatives == 0 {
            return Vec::new();
        }
        if self.pool == 0 || self.pool >= self.candidates.len() {
            return self.candidates.clone();
        }
        self.candidates.sample(rng, self.pool).copied().collect()
    }

    /// Distinct items of the pool that the user did not engage with in training; fewer than asked for where the pool runs dry.
    fn negatives(&self, pool: &[u32], own: &[u32], rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut drawn = Vec::with_capacity(self.negatives);
        // Most draws succeed at once; the bound only matters for users who engaged with nearly everything.
        for _ in 0..10 * self.negatives {
            if drawn.len() == self.negatives || pool.is_empty() {
                break;
            }
            let item = pool[rng.random_range(0..pool.len())];
            if own.binary_search(&item).is_err() && !drawn.contains(&item) {
                drawn.push(item);
            }
        }
        drawn
    }

    /// Random numbers of one purpose in one epoch.
    fn rng(&self, epoch: usize, purpose: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(epoch as u64));
        rng.set_stream(purpose);
        rng
    }
}
