//! The batches of a log in shards: a function of seed, epoch and number, as those of a log in memory.

use std::ops::ControlFlow;
use std::sync::mpsc;

use paretune_data::{Items, Log};
use paretune_objectives::Objectives;
use paretune_recommender::{Batch, Corpus, Recommender};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Stream;
use crate::plan::{Batches, Plan, Size, negatives};
use crate::{TrainError, TrainingConfig};

/// The batches of a training over a [`Stream`].
pub(crate) struct Streamed<'a> {
    stream: &'a Stream,
    model: &'a Recommender,
    objectives: &'a Objectives,
    config: &'a TrainingConfig,
    seed: u64,
    whole: Size,
    /// Batches of each shard.
    steps: Vec<usize>,
}

impl<'a> Streamed<'a> {
    pub(super) fn new(
        stream: &'a Stream,
        model: &'a Recommender,
        objectives: &'a Objectives,
        config: &'a TrainingConfig,
        seed: u64,
    ) -> Self {
        let mut whole = Size::default();
        stream.sizes.iter().for_each(|size| whole += *size);
        let groups = whole.groups_per_batch(config.batch, negatives(model, config));
        let steps = stream.sizes.iter().map(|size| size.groups.div_ceil(groups)).collect();
        Self { stream, model, objectives, config, seed, whole, steps }
    }

    /// The order of the shards in an epoch; those with nothing to train on are passed over.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.steps.len()).filter(|shard| self.steps[*shard] > 0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x5a4d_ed00);
        rng.set_stream(epoch as u64);
        order.shuffle(&mut rng);
        order
    }

    /// Another seed for each shard, the training's own for the first: one shard is trained on as a log in memory is.
    fn seed_of(&self, shard: usize) -> u64 {
        self.seed ^ (shard as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)
    }

    /// The plan of one shard. Its corpus is the one of the shard before, turned to another part of the log.
    fn plan<'c>(&self, corpus: &'c Corpus, shard: usize) -> Result<Plan<'c>, TrainError> {
        let plan = Plan::new(corpus, self.objectives, self.config, self.seed_of(shard))?;
        Ok(plan.for_model(self.model, self.config).part_of(&self.whole, self.config))
    }

    fn corpus(&self, log: Log) -> Result<Corpus, TrainError> {
        // Training reads an item's number and its tokens.
        let items = Items { ids: self.stream.sample().dataset.items.ids.clone(), ..Items::default() };
        self.stream.corpus(log, items)
    }
}

impl Batches for Streamed<'_> {
    fn steps_per_epoch(&self) -> usize {
        self.steps.iter().sum()
    }

    fn steps(&self) -> usize {
        let all = self.steps_per_epoch() * self.config.epochs;
        if self.config.max_steps == 0 { all } else { all.min(self.config.max_steps) }
    }

    fn visit(
        &self,
        step: usize,
        each: &mut dyn FnMut(Batch) -> Result<ControlFlow<()>, TrainError>,
    ) -> Result<(), TrainError> {
        let epoch = step / self.steps_per_epoch();
        // The step at which a shard begins, and the number of its first batch that is still to come.
        let mut begin = epoch * self.steps_per_epoch();
        let mut order = self.order(epoch);
        while let Some(&shard) = order.first().filter(|shard| begin + self.steps[**shard] <= step) {
            begin += self.steps[shard];
            order.remove(0);
        }
        let mut first = step - begin;
        std::thread::scope(|scope| {
            // Without room: the reader holds one shard ready and waits.
            let (send, receive) = mpsc::sync_channel(0);
            let (stream, shards) = (self.stream, order.clone());
            scope.spawn(move || {
                for shard in shards {
                    // Nobody listens any more once training is over.
                    if send.send(stream.log(shard)).is_err() {
                        break;
                    }
                }
            });
            let mut corpus: Option<Corpus> = None;
            for (&shard, log) in order.iter().zip(&receive) {
                let corpus = match &mut corpus {
                    Some(corpus) => {
                        corpus.turn_to(log?);
                        corpus
                    }
                    none => none.insert(self.corpus(log?)?),
                };
                let plan = self.plan(corpus, shard)?;
                for batch in plan.numbered(epoch, first, begin) {
                    if each(batch)?.is_break() {
                        return Ok(());
                    }
                }
                begin += self.steps[shard];
                first = 0;
            }
            Ok(())
        })
    }
}
