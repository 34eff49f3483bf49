//! Training on a log that is larger than memory.
//!
//! The log lies in [`Shards`], each of which holds whole users. An epoch visits them in a shuffled order and shuffles the requests within
//! each; since a hash dealt the users out, every shard is a fair sample of all. While one shard trains, a thread reads the next one.

mod batches;

use std::sync::Arc;

use paretune_data::{Items, Log, Part, ShardSplit, Shards, SplitStrategy};
use paretune_features::{TextTokenizer, Tokenized};
use paretune_objectives::Objectives;
use paretune_recommender::{Corpus, CorpusConfig, Recommender, Totals, UserConfig, UserKind};

use crate::plan::{Grouped, Size};
use crate::{TrainError, TrainingConfig};
use batches::Streamed;

/// A log in shards, ready to be trained on: what has to be known of the whole, and a sample of users to validate and to measure with.
///
/// In memory are the catalogue and its tokens, a few counts for each item, the sample, and two shards at a time (a third while it is being read).
///
/// ```no_run
/// use paretune_data::{Shards, SplitStrategy};
/// use paretune_recommender::{CorpusConfig, UserKind};
/// use paretune_train::Stream;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let shards = Shards::from_folder("tables".as_ref(), "shards".as_ref(), 64, None)?;
/// let config = CorpusConfig {
///     engaged: "click".into(),
///     feedback: vec!["click".into()],
///     history: 50,
///     reading: UserKind::Sasrec.reading(),
///     template: "{title}".into(),
///     search: false,
///     features: Vec::new(),
/// };
/// // Without a tokenizer items are known by their ids alone.
/// let stream = Stream::new(shards, &SplitStrategy::LeaveLast, config, None, 10_000)?;
/// println!("{} events to train on", stream.rows(paretune_data::Part::Train));
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    shards: Shards,
    split: ShardSplit,
    /// What there is to train on in each shard.
    sizes: Vec<Size>,
    /// Rows of training, validation and test.
    parts: [u64; 3],
    sample: Arc<Corpus>,
}

impl Stream {
    /// Reads the log once, shard by shard: counts it and draws a sample of about `users` users, which are the same whatever the number of
    /// shards. Without a `tokenizer` items have no texts.
    ///
    /// # Errors
    /// A shard that cannot be read, a split that needs the whole log at once or leaves a part empty, a feedback column that does not exist, a
    /// template that names no field of the items.
    pub fn new(
        shards: Shards,
        strategy: &SplitStrategy,
        config: CorpusConfig,
        tokenizer: Option<&TextTokenizer>,
        users: usize,
    ) -> Result<Self, TrainError> {
        Self::check_reading(&config)?;
        let split = shards.split(strategy)?;
        let mut totals = Totals::new(&config, shards.items());
        let mut sample = shards.sample(users);
        let (mut sizes, mut parts) = (Vec::new(), [0; 3]);
        for shard in 0..shards.count() {
            let log = shards.log(shard, &split, &config.engaged)?;
            totals.add(&log.events, &log.split)?;
            sample.add(&log);
            sizes.push(Grouped::new(&log.events, &log.split, &config).size);
            log.split.part.iter().for_each(|part| parts[place(*part)] += 1);
        }
        for part in [Part::Train, Part::Valid, Part::Test] {
            if parts[place(part)] == 0 {
                let why =
                    format!("strategy \"{}\" found no event for it; choose another, or other shares", strategy.name());
                return Err(TrainError::Empty { part: part.name(), why });
            }
        }
        let items = shards.catalogue()?;
        let tokens = match tokenizer {
            Some(tokenizer) => Corpus::tokenize(&items, tokenizer, &config.template)?,
            None => Tokenized::default(),
        };
        let log = sample.finish(&config.engaged)?;
        let summary = Arc::new(totals.finish());
        let sample = Corpus::of_log((shards.name(), items), log, Arc::new(tokens), summary, config)?;
        Ok(Self { shards, split, sizes, parts, sample: Arc::new(sample) })
    }

    /// The sample of users, with all their events. What it says of items ([`Corpus::summary`]) is counted over the whole log.
    pub fn sample(&self) -> &Arc<Corpus> {
        &self.sample
    }

    /// The log.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Events of one part of the whole log.
    pub fn rows(&self, part: Part) -> u64 {
        self.parts[place(part)]
    }

    /// Whether a model that reads this, with such users and perhaps a graph, can be trained for these objectives on a log that is read shard
    /// by shard.
    ///
    /// # Errors
    /// An objective with a task tower, a graph, a row for each user, features of users or of columns, queries.
    pub fn check(
        reads: &CorpusConfig,
        user: &UserConfig,
        graph: bool,
        objectives: &Objectives,
    ) -> Result<(), TrainError> {
        Self::check_reading(reads)?;
        if let Some(objective) = objectives.iter().find(|objective| objective.kind.has_tower()) {
            return refused(
                format!("objective `{}`", objective.name),
                "task towers look at the past of every item at every moment; make it kind = \"ranking\"",
            );
        }
        if graph || matches!(user.kind, UserKind::Factors | UserKind::Graph) {
            return refused(
                format!("user model \"{}\"{}", user.kind.name(), if graph { " with a graph" } else { "" }),
                "graphs and rows for users hold the whole log; take a model that reads histories, such as sasrec, without model.graph",
            );
        }
        if user.features {
            return refused(
                "a user model with features".into(),
                "they are counted over the whole log as of every moment; set model.user.features = false",
            );
        }
        Ok(())
    }

    fn check_reading(reads: &CorpusConfig) -> Result<(), TrainError> {
        if reads.search {
            let problem = "queries are told apart over the whole log; set model.search = false";
            return refused("a model that reads queries".into(), problem);
        }
        if !reads.features.is_empty() {
            let problem = "they are fitted to the whole log at once; leave [[features]] out";
            return refused("a model with features of columns".into(), problem);
        }
        Ok(())
    }

    pub(crate) fn batches<'a>(
        &'a self,
        model: &'a Recommender,
        objectives: &'a Objectives,
        config: &'a TrainingConfig,
        seed: u64,
    ) -> Result<Streamed<'a>, TrainError> {
        Self::check(&self.sample.config, &model.config().user, model.has_graph(), objectives)?;
        config.check_sizes()?;
        Ok(Streamed::new(self, model, objectives, config, seed))
    }

    /// The part of the log that holds a user's events, if there are any.
    ///
    /// # Errors
    /// A shard that cannot be read.
    pub fn corpus_of(&self, user: &str) -> Result<Corpus, TrainError> {
        self.corpus(self.log(self.shards.shard_of(user))?, self.sample.dataset.items.clone())
    }

    fn corpus(&self, log: Log, items: Items) -> Result<Corpus, TrainError> {
        let Corpus { tokens, dataset, config, .. } = &*self.sample;
        let summary = Arc::clone(self.sample.summary());
        Ok(Corpus::of_log((&dataset.name, items), log, Arc::clone(tokens), summary, config.clone())?)
    }

    fn log(&self, shard: usize) -> Result<Log, TrainError> {
        Ok(self.shards.log(shard, &self.split, &self.sample.config.engaged)?)
    }
}

fn refused(what: String, problem: &'static str) -> Result<(), TrainError> {
    Err(TrainError::NotStreamed { what, problem })
}

fn place(part: Part) -> usize {
    match part {
        Part::Train => 0,
        Part::Valid => 1,
        Part::Test => 2,
    }
}
