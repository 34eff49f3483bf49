//! Which samples make which batch: a function of seed, epoch and number, so that a resumed run meets the same batches.

mod sampler;
mod shared;

use paretune_data::Part;
use paretune_objectives::{Kind, Objectives};
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, Needs, Reading, Recommender};
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;

use crate::{HistoryMode, TrainError, TrainingConfig, evaluation::engagement};
use sampler::Sampler;
use shared::Shared;

/// The batches of a training run.
///
/// Rows of one user with one clock (a request) stay together: the user is represented once for all of them. For models of which requests
/// share a sequence ([`Reading`]) so do consecutive requests of a user, as many as fit into one history.
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
    /// Share of the requests whose user is hidden.
    hide_users: f64,
    /// Items that can be negatives: those somebody engaged with in training.
    candidates: Vec<u32>,
    /// Negatives that all requests of a batch share, for rankings.
    shared: Option<Shared>,
    /// Whether there is an encoder that is trained, and so has to read texts.
    reads: bool,
    /// Share of a sequence's events that cloze training hides.
    cloze: f64,
    /// Steps of which one reads texts.
    encode_every: usize,
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
                    Kind::Binary | Kind::Conditional | Kind::Ranking => 0.0,
                    Kind::Regression | Kind::LogRegression => f32::NAN,
                },
            })
            .collect()
    }

    pub(crate) fn value(&self, corpus: &Corpus, row: u32) -> f32 {
        corpus.dataset.events.feedback.get(&self.column).map_or(f32::NAN, |column| column[row as usize])
    }
}

/// Rows of one user with one clock, or, where requests share a sequence, as many consecutive ones of a user as one history holds: after the
/// first such group of a user half as many, so that every request sees half of a history at least.
fn groups(corpus: &Corpus, train: &[u32]) -> Vec<(u32, u32)> {
    let events = &corpus.dataset.events;
    let engaged = events.feedback.get(&corpus.config.engaged);
    let key = |row: u32| (events.user[row as usize], corpus.split.clock[row as usize]);
    let mut groups: Vec<(u32, u32)> = Vec::new();
    // Events of the group that enter histories, and how many of them it may have.
    let (mut held, mut room) = (0, corpus.config.history);
    for (at, &row) in (0u32..).zip(train) {
        let is_event = usize::from(engaged.is_some_and(|column| column[row as usize] > 0.0));
        let last = groups.last().map(|(_, end)| key(train[*end as usize - 1]));
        let same_user = last.is_some_and(|(user, _)| user == key(row).0);
        let joins = last == Some(key(row)) || (corpus.config.reading != Reading::Each && same_user && held < room);
        match groups.last_mut() {
            Some((_, end)) if joins => {
                *end = at + 1;
                held += is_event;
            }
            _ => {
                groups.push((at, at + 1));
                room = if same_user { (corpus.config.history / 2).max(1) } else { corpus.config.history };
                held = is_event;
            }
        }
    }
    groups
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
        let mut train = corpus.split.rows(Part::Train);
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
        if corpus.config.reading != Reading::Each {
            // A log without times lies in no order.
            let events = &corpus.dataset.events;
            train.sort_by_key(|&row| (events.user[row as usize], corpus.split.clock[row as usize], row));
        }
        let groups = groups(corpus, &train);
        let mut plan = Self {
            corpus,
            columns: LabelColumn::all(objectives),
            groups_per_batch: 1,
            groups,
            candidates: (0u32..)
                .zip(engagement(corpus))
                .filter(|(_, count)| *count > 0)
                .map(|(item, _)| item)
                .collect(),
            pool: config.negative_pool,
            shared: None,
            reads: true,
            cloze: config.cloze,
            encode_every: config.encode_every,
            hide: config.hide_past,
            hide_users: config.hide_users,
            train,
            negatives: config.negatives,
            encode: match config.history {
                HistoryMode::Cached => Encode::Shown,
                HistoryMode::Trained => Encode::ShownAndHistory,
            },
            epochs: config.epochs,
            max_steps: config.max_steps,
            seed,
        };
        plan.groups_per_batch = plan.groups_for(config.batch);
        Ok(plan)
    }

    /// As `model` needs it: with the negatives of its rankings, and without reading texts where its encoder is frozen, so that looking up gives
    /// the same. Where all objectives are rankings that share their negatives, no others are drawn.
    #[must_use]
    pub fn for_model(mut self, model: &Recommender, config: &TrainingConfig) -> Self {
        self.reads = !model.parameters().backbone.is_empty();
        let objectives = model.objectives();
        let rankings = objectives.iter().filter(|objective| objective.kind == Kind::Ranking).count();
        if rankings == 0 {
            return self;
        }
        let needs = model.config().ranking.needs();
        self.shared = Shared::new(self.corpus, &self.candidates, needs, config);
        if rankings == objectives.len() && needs != Needs::Graded {
            self.negatives = 0;
            self.groups_per_batch = self.groups_for(config.batch);
        }
        self
    }

    fn groups_for(&self, samples: usize) -> usize {
        ((samples as f64 / self.per_group()).round() as usize).max(1)
    }

    /// Samples of a group, on average.
    fn per_group(&self) -> f64 {
        let events = &self.corpus.dataset.events;
        let positives = events
            .feedback
            .get(&self.corpus.config.engaged)
            .map_or(0, |column| self.train.iter().filter(|&&row| column[row as usize] > 0.0).count());
        (self.train.len() + positives * self.negatives) as f64 / self.groups.len().max(1) as f64
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
            self.batch(epoch, epoch * self.steps_per_epoch() + number, &order[number * self.groups_per_batch..end])
        })
    }

    fn batch(&self, epoch: usize, step: usize, groups: &[u32]) -> Batch {
        let mut builder = BatchBuilder::new(self.corpus, self.columns.len());
        let mut rng = self.rng(epoch, 1 + u64::from(groups.first().copied().unwrap_or(0)));
        let pool = self.draw_pool(&mut rng);
        let mut sampler = Sampler { plan: self, builder: &mut builder, pool, own: Vec::new(), rng };
        for &group in groups {
            let (start, end) = self.groups[group as usize];
            sampler.group(&self.train[start as usize..end as usize]);
        }
        let mut rng = sampler.rng;
        let reads = self.reads && step.is_multiple_of(self.encode_every);
        if let Some(shared) = &self.shared {
            shared.draw(&self.candidates, reads, &mut builder, &mut rng);
        }
        let mut batch = builder.build(if reads { self.encode } else { Encode::Nothing });
        if let Some(shared) = &self.shared {
            batch.pool.log_q = shared.log_q(&batch);
        }
        batch
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
