//! Which samples make which batch: a function of seed, epoch and number, so that a resumed run meets the same batches.

mod groups;
mod loaders;
mod sampler;
mod shared;

use std::ops::ControlFlow;

use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{Augmentations, Batch, BatchBuilder, Corpus, Encode, Needs, Recommender};
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;

use crate::{HistoryMode, Loaders, TrainError, TrainingConfig, debias::Propensities, evaluation::engagement};
pub(crate) use groups::{Grouped, Size};
use loaders::Alternating;
use sampler::Sampler;
use shared::Shared;

/// The batches of a training, wherever its log lies.
pub(crate) trait Batches {
    /// Batches of one epoch.
    fn steps_per_epoch(&self) -> usize;

    /// Batches in all.
    fn steps(&self) -> usize;

    /// Hands over the batches from `step` on, to the end of its epoch or until `each` says that it is enough.
    fn visit(
        &self,
        step: usize,
        each: &mut dyn FnMut(Batch) -> Result<ControlFlow<()>, TrainError>,
    ) -> Result<(), TrainError>;
}

/// The batches of a training run.
///
/// Rows of one user with one clock (a request) stay together: the user is represented once for all of them. For models of which requests
/// share a sequence ([`Reading`](paretune_recommender::Reading)) so do consecutive requests of a user, as many as fit into one history.
pub struct Plan<'a> {
    corpus: &'a Corpus,
    columns: Vec<LabelColumn>,
    /// Rows `train[start..end]` of each request.
    groups: Vec<(u32, u32)>,
    train: Vec<u32>,
    size: Size,
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
    /// How histories are changed for contrast, if the model is trained so.
    views: Option<Augmentations>,
    /// What debiased losses have to know of rows.
    propensities: Propensities,
    /// Requests of one objective after the other; absent where batches are for all of them.
    loaders: Option<Alternating>,
}

/// Streams of random numbers of the objectives' turns, from here down: batches count theirs from 1 up.
const TURNS: u64 = u64::MAX;

/// Where an objective's labels come from and what a sampled negative gets.
#[derive(Debug, Clone)]
pub(crate) struct LabelColumn {
    pub(crate) column: String,
    pub(crate) negative: f32,
}

impl LabelColumn {
    pub(crate) fn all(objectives: &Objectives) -> Vec<Self> {
        let column = |(k, objective): (usize, &Objective)| Self {
            column: objective.column.clone(),
            negative: objectives.negative_label(k),
        };
        objectives.iter().enumerate().map(column).collect()
    }

    /// As [`Self::taught`], with what training makes of sampled negatives.
    fn trained(objectives: &Objectives) -> Vec<Self> {
        let mut columns = Self::taught(objectives);
        for (k, column) in columns.iter_mut().enumerate().take(objectives.len()) {
            column.negative = objectives.sampled_label(k);
        }
        columns
    }

    /// As [`Self::all`], followed by what teachers say, which nobody asked about sampled negatives.
    pub(crate) fn taught(objectives: &Objectives) -> Vec<Self> {
        let teachers =
            objectives.teachers().map(|(_, distill)| Self { column: distill.column.clone(), negative: f32::NAN });
        Self::all(objectives).into_iter().chain(teachers).collect()
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
        let Grouped { train, groups, size } = Grouped::new(&corpus.dataset.events, &corpus.split, &corpus.config);
        if train.is_empty() {
            return Err(TrainError::Empty { part: "train", why: "widen the split or import more data".into() });
        }
        config.check_sizes()?;
        let propensities = Propensities::new(corpus, objectives)?;
        propensities.check(objectives, config.negatives)?;
        let columns = LabelColumn::trained(objectives);
        let loaders = match config.loaders {
            Loaders::Mixed => None,
            Loaders::Alternate => Some(Alternating::new(corpus, objectives, &columns, &groups, &train)?),
        };
        Ok(Self {
            corpus,
            loaders,
            columns,
            propensities,
            groups_per_batch: size.groups_per_batch(config.batch, config.negatives),
            size,
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
            views: None,
        })
    }

    /// As `model` needs it: with the negatives of its rankings, with changed histories where it contrasts them, and without reading texts
    /// where its encoder is frozen, so that looking up gives the same. Where no objective has a tower and rankings share their
    /// negatives, no others are drawn.
    #[must_use]
    pub fn for_model(mut self, model: &Recommender, config: &TrainingConfig) -> Self {
        self.reads = !model.parameters().backbone.is_empty();
        self.views = model.auxiliary().contrast.map(|contrast| contrast.augmentations);
        if model.objectives().iter().all(|objective| objective.kind != Kind::Ranking) {
            return self;
        }
        self.shared = Shared::new(self.corpus, &self.candidates, model.config().ranking.needs(), config);
        self.negatives = negatives(model, config);
        self.groups_per_batch = self.size.groups_per_batch(config.batch, self.negatives);
        self
    }

    /// As a part of a larger log of this size, whose batches hold as many groups everywhere.
    #[must_use]
    pub(crate) fn part_of(self, whole: &Size, config: &TrainingConfig) -> Self {
        Self { groups_per_batch: whole.groups_per_batch(config.batch, self.negatives), ..self }
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
        self.numbered(epoch, step % self.steps_per_epoch(), epoch * self.steps_per_epoch())
    }

    /// Batches of an epoch from the one with the number `first` on, of which number 0 is the training's step `zero`.
    pub(crate) fn numbered(&self, epoch: usize, first: usize, zero: usize) -> impl Iterator<Item = Batch> + '_ {
        let (mixed, turns) = match &self.loaders {
            Some(loaders) => (Vec::new(), loaders.shuffled(|purpose| self.rng(epoch, TURNS - purpose))),
            None => (self.order(epoch), Vec::new()),
        };
        (first..self.steps_per_epoch()).map(move |number| {
            if let Some(loaders) = &self.loaders {
                // Turns go on from one epoch to the next.
                let (objective, groups) = loaders.batch(&turns, zero + number, number, self.groups_per_batch);
                let mut batch = self.batch(epoch, zero + number, &groups);
                batch.only = Some(objective);
                return batch;
            }
            let end = ((number + 1) * self.groups_per_batch).min(mixed.len());
            self.batch(epoch, zero + number, &mixed[number * self.groups_per_batch..end])
        })
    }

    fn batch(&self, epoch: usize, step: usize, groups: &[u32]) -> Batch {
        let mut builder = BatchBuilder::new(self.corpus, self.columns.len());
        let mut rng = self.rng(epoch, 1 + u64::from(groups.first().copied().unwrap_or(0)));
        let pool = self.draw_pool(&mut rng);
        let mut sampler = Sampler { plan: self, builder: &mut builder, pool, own: Vec::new(), rows: Vec::new(), rng };
        for &group in groups {
            let (start, end) = self.groups[group as usize];
            sampler.group(&self.train[start as usize..end as usize]);
        }
        let (mut rng, rows) = (sampler.rng, sampler.rows);
        let reads = self.reads && step.is_multiple_of(self.encode_every);
        if let Some(shared) = &self.shared {
            shared.draw(&self.candidates, reads, &mut builder, &mut rng);
        }
        if let Some(augmentations) = self.views {
            // Drawn apart, so that the rest of a batch is what it is without them.
            builder.views(augmentations, self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(step as u64));
        }
        let mut batch = builder.build(if reads { self.encode } else { Encode::Nothing });
        if let Some(shared) = &self.shared {
            batch.pool.log_q = shared.log_q(&batch);
        }
        batch.epoch = Some(epoch);
        batch.weights = self.propensities.weights(&rows, &batch.labels);
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

/// Negatives of single rows that a model is trained with: none where there are no towers to read them, and rankings share theirs.
pub(crate) fn negatives(model: &Recommender, config: &TrainingConfig) -> usize {
    let rankings = !model.objectives().iter().any(|objective| objective.kind.has_tower());
    if rankings && model.config().ranking.needs() != Needs::Graded { 0 } else { config.negatives }
}

impl Batches for Plan<'_> {
    fn steps_per_epoch(&self) -> usize {
        Plan::steps_per_epoch(self)
    }

    fn steps(&self) -> usize {
        Plan::steps(self)
    }

    fn visit(
        &self,
        step: usize,
        each: &mut dyn FnMut(Batch) -> Result<ControlFlow<()>, TrainError>,
    ) -> Result<(), TrainError> {
        for batch in self.epoch_from(step) {
            if each(batch)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
