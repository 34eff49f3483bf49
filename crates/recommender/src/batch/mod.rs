//! Batches: requests (a user at a moment) and samples (one item shown in a request), with everything distinct kept once.

mod builder;
mod sequences;

use std::collections::BTreeMap;

use paretune_features::Packed;
use paretune_objectives::SampleWeights;

pub use builder::BatchBuilder;
pub use sequences::Sequences;

/// Who is asking, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// A user of the tables.
    Known {
        /// Index of the user.
        user: u32,
        /// Only events with a smaller clock are seen. Anything past the end of the log (`i64::MAX` will do) counts as that end:
        /// as far as the log knows, it is the present.
        clock: i64,
        /// Whether the history leaves out everything but training rows.
        train_only: bool,
    },
    /// Somebody new, known by a few items they liked, newest first, who asks at the end of the log.
    New {
        /// Indices of items; one that is not in the catalogue is passed over.
        history: Vec<u32>,
    },
    /// Somebody new of whom more is known than items.
    Described {
        /// As above.
        history: Vec<u32>,
        /// What would stand in the columns of the users' table; a number as text. What is not given is missing.
        columns: BTreeMap<String, String>,
        /// What they search for.
        query: Option<String>,
        /// When they ask; anything past the end of the log counts as that end.
        clock: i64,
    },
}

/// Which items of a batch the encoder reads; the others are looked up among vectors computed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encode {
    /// None: evaluation over a catalogue that is already embedded.
    Nothing,
    /// The items shown: gradients reach the encoder through them.
    Shown,
    /// The items shown and those of the histories.
    ShownAndHistory,
}

/// Items that are drawn for all requests of a batch: what ranking losses tell the positives from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pool {
    /// `[N]`: places in the batch's items; one that was drawn twice counts twice.
    pub slots: Vec<u32>,
    /// For each of the batch's items the logarithm of the probability with which it becomes a negative, which softmax over samples
    /// corrects for; empty where all are equally likely.
    pub log_q: Vec<f32>,
}

/// What the requests of a batch search for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Searched {
    /// The distinct queries' texts.
    pub packed: Packed,
    /// `[U]`: which of them a request asks; `None` where it searches for nothing.
    pub of: Vec<Option<u32>>,
}

/// Samples ready for the model. `U` requests, `B` samples.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Distinct items: those that are encoded, ascending, then those that are looked up, ascending.
    pub items: Vec<u32>,
    /// How many of them are encoded.
    pub encoded: usize,
    /// The texts of the encoded items, in the same order.
    pub packed: Packed,
    /// `[B]`: which of `items` a sample shows.
    pub slots: Vec<u32>,
    /// `[B]`: which request a sample belongs to.
    pub requests: Vec<u32>,
    /// `[B × item features]`: of behaviour, then the numbers among the items' features.
    pub item_features: Vec<f32>,
    /// `[B × slots]`: rows of what features of several sides are crossed into. (Categories of items alone depend on nothing but the item, and
    /// a model has them.)
    pub pair_categories: Vec<u32>,
    /// `[B]`: logarithm of the position shown less the training rows' mean; 0 where unknown, so that whoever asks without a
    /// position is answered for an average one.
    pub positions: Vec<f32>,
    /// `[B]`: the position itself, from 1; 0 where unknown. For objectives with an examination model.
    pub places: Vec<u16>,
    /// `[U]`: index of the user, `None` for somebody new.
    pub users: Vec<Option<u32>>,
    /// `[U × user and context features]`: of behaviour, then the numbers among the features of users, then of moments.
    pub user_features: Vec<f32>,
    /// `[U × slots]`: rows of the users' categories, then of the moments'.
    pub user_categories: Vec<u32>,
    /// What the requests' users did before.
    pub histories: Sequences,
    /// What they search for.
    pub searched: Searched,
    /// Negatives that all requests share; without any, rankings take the other requests' positives.
    pub pool: Pool,
    /// For each label column of the builder: `[B]` values, `NaN` where not observed. One for each objective, then one for each of
    /// [`Objectives::teachers`](paretune_objectives::Objectives::teachers).
    pub labels: Vec<Vec<f32>>,
    /// For each label column what its loss has to know of the samples where it is debiased; empty where nothing is. Whoever plans a training fills
    /// it in.
    pub weights: Vec<Option<SampleWeights>>,
    /// For a model with conditioning: one weight for each objective, of which only the shares count. Without, the model answers
    /// for its own preference.
    pub preference: Option<Vec<f64>>,
    /// Which pass over the training rows it belongs to, from 0; `None` outside training.
    pub epoch: Option<usize>,
    /// The one objective whose labels count, of a batch that is for it alone; all of them without. Goals without labels always count.
    pub only: Option<usize>,
    /// Changed histories ([`BatchBuilder::views`]), each read to its end: the first views of all users, then the second ones in the same
    /// order. Hidden events are masked. Empty without contrast.
    pub views: Sequences,
}

impl Batch {
    /// Number of samples `B`.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The items that a request sees in its history.
    pub(crate) fn met(&self, request: usize) -> impl Iterator<Item = u32> {
        let rows = self.histories.seen[request].clone();
        rows.map(|row| self.items[self.histories.items[row as usize] as usize])
    }

    /// Number of requests `U`.
    pub fn viewers(&self) -> usize {
        self.users.len()
    }
}
