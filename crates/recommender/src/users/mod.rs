//! Users: one vector for each request, from what the user did before and what else is known.
//!
//! Every model answers through [`UserModel`]; the configuration names one of [`UserKind`]. They differ in what they make of a history:
//! [`pooling`](UserKind::Mean) and [`attention`](UserKind::Attention) see a set with features of recency, the sequence models see the
//! order, [`factors`](UserKind::Factors) see only who the user is.

mod attention;
mod extras;
mod factors;
mod mean;
mod sequence;
mod two_tower;

use std::ops::Range;

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Bags, SequenceKind};
use serde::{Deserialize, Serialize};

use crate::{Reading, RecommenderError};

pub(crate) use attention::Attention;

/// What makes a user's vector of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserKind {
    /// Attention pooling with learned queries (Lin et al. 2017).
    #[default]
    Attention,
    /// The mean of the history.
    Mean,
    /// A multi-layer perceptron over the mean of the history and the user's features: the query tower of a two-tower model (Covington
    /// et al. 2016; Yi et al. 2019).
    TwoTower,
    /// A gated recurrent network (GRU4Rec: Hidasi et al. 2016).
    Gru,
    /// A long short-term memory.
    Lstm,
    /// A causal transformer (SASRec: Kang and McAuley 2018).
    Sasrec,
    /// A bidirectional transformer with a mask at the place that is asked for (BERT4Rec: Sun et al. 2019).
    Bert4rec,
    /// A node of the graph ([`crate::GraphConfig`]): LightGCN (He et al. 2020). New users are what their histories' nodes say.
    Graph,
    /// One learned row for each user: matrix factorization. Users without a row, and new ones, are known by their features alone.
    Factors,
}

impl UserKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Attention,
        Self::Mean,
        Self::TwoTower,
        Self::Gru,
        Self::Lstm,
        Self::Sasrec,
        Self::Bert4rec,
        Self::Graph,
        Self::Factors,
    ];

    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Mean => "mean",
            Self::TwoTower => "two-tower",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
            Self::Sasrec => "sasrec",
            Self::Bert4rec => "bert4rec",
            Self::Graph => "graph",
            Self::Factors => "factors",
        }
    }

    /// How it reads histories, for [`CorpusConfig::reading`](crate::CorpusConfig::reading).
    pub fn reading(self) -> Reading {
        match self {
            // One pass gives the states after every event.
            Self::Gru | Self::Lstm | Self::Sasrec => Reading::Prefixes,
            Self::Bert4rec => Reading::Cloze,
            Self::Attention | Self::Mean | Self::TwoTower | Self::Graph | Self::Factors => Reading::Each,
        }
    }
}

/// Shape of the user model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserConfig {
    /// Which model.
    pub kind: UserKind,
    /// Layers of a sequence model.
    pub layers: usize,
    /// Heads of attention; divides the width of the shared representation.
    pub heads: usize,
    /// Width of feed-forward blocks, in multiples of the width of the shared representation.
    pub inner: usize,
    /// Whether transformer layers normalize what goes into their blocks rather than what comes out.
    pub pre_norm: bool,
    /// Dropout of a sequence model or a tower.
    pub dropout: f64,
    /// Whether events enter with what came of them and when, beside the item.
    pub events: bool,
    /// Whether features of user and context enter beside the history.
    pub features: bool,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self {
            kind: UserKind::Attention,
            layers: 1,
            heads: 4,
            inner: 4,
            pre_norm: false,
            dropout: 0.1,
            events: true,
            features: true,
        }
    }
}

impl UserConfig {
    /// Says whether the settings are in range, for vectors of width `dim`.
    pub(crate) fn check(&self, dim: usize) -> Result<(), RecommenderError> {
        let shape = |field, value, problem: String| Err(RecommenderError::Shape { field, value, problem });
        if self.heads == 0 || dim == 0 || !dim.is_multiple_of(self.heads) {
            return shape("user.heads", self.heads, format!("must divide dim, which is {dim}"));
        }
        // A two-tower model without hidden layers is linear.
        let least = usize::from(self.kind.reading() != Reading::Each);
        if self.layers < least {
            return shape("user.layers", self.layers, format!("must be at least {least}"));
        }
        if self.inner == 0 {
            return shape("user.inner", self.inner, "must be at least 1".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let (field, rule) = ("user.dropout", "must be at least 0 and below 1");
            return Err(RecommenderError::Setting { field, value: self.dropout, rule });
        }
        Ok(())
    }
}

/// The widths that a user model meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    /// Of items and of the result.
    pub(crate) dim: usize,
    /// Features of an event.
    pub(crate) events: usize,
    /// Features of user and context.
    pub(crate) features: usize,
    /// Longest history.
    pub(crate) longest: usize,
    /// Number of users in the tables.
    pub(crate) users: usize,
}

/// What a batch says of its users. `T` events, `S` sequences, `U` requests.
pub(crate) struct Past<'a> {
    /// `[items, dim]`: the batch's distinct items.
    pub(crate) items: Tensor,
    /// `[T]`: the item of each event, end to end, oldest first.
    pub(crate) rows: &'a [u32],
    /// `[T, event features]`: what came of them and when.
    pub(crate) events: Tensor,
    /// `[S + 1]`: where sequences begin and end.
    pub(crate) offsets: &'a [u32],
    /// `[U]`: the rows that a request sees.
    pub(crate) seen: &'a [Range<u32>],
    /// `[U]`: the hidden row that a request asks for; `None` for what comes next.
    pub(crate) asked: &'a [Option<u32>],
    /// Rows that are hidden, ascending.
    pub(crate) hidden: &'a [u32],
    /// `[U, features]`.
    pub(crate) features: Tensor,
    /// `[U]`.
    pub(crate) users: &'a [Option<u32>],
}

impl Past<'_> {
    /// `[T, dim]`: the items of all events.
    fn gathered(&self) -> Result<Tensor, RecommenderError> {
        Ok(self.items.index_select(&Tensor::new(self.rows, self.items.device())?, 0)?)
    }

    /// The events that each request sees, as a set.
    fn bags(&self) -> Result<Bags, RecommenderError> {
        Ok(Bags::new(self.rows, self.seen)?)
    }
}

/// From the past of a batch's requests to one vector for each of them.
pub(crate) trait UserModel: Send + Sync {
    /// `[U, dim]`; `dropout` is the seed of this step, `None` for evaluation.
    fn forward(&self, past: &Past<'_>, dropout: Option<u64>) -> Result<Tensor, RecommenderError>;

    /// Trainable parameters in a fixed order, named `users.…`.
    fn parameters(&self) -> Vec<(String, Var)>;
}

/// A fresh model; the same `seed` gives the same weights. `None` where users are nodes of a graph.
pub(crate) fn build(
    config: &UserConfig,
    widths: Widths,
    seed: u64,
    device: &Device,
) -> Result<Option<Box<dyn UserModel>>, RecommenderError> {
    let sequence = |kind| sequence::Sequence::new(kind, config, widths, seed, device);
    Ok(Some(match config.kind {
        UserKind::Graph => return Ok(None),
        UserKind::Attention => Box::new(Attention::new(config, widths, seed, device)?),
        UserKind::Mean => Box::new(mean::Mean::new(config, widths, seed, device)?),
        UserKind::TwoTower => Box::new(two_tower::TwoTower::new(config, widths, seed, device)?),
        UserKind::Factors => Box::new(factors::Factors::new(config, widths, seed, device)?),
        UserKind::Gru => Box::new(sequence(SequenceKind::Gru)?),
        UserKind::Lstm => Box::new(sequence(SequenceKind::Lstm)?),
        UserKind::Sasrec => Box::new(sequence(SequenceKind::Causal)?),
        UserKind::Bert4rec => Box::new(sequence(SequenceKind::Bidirectional)?),
    }))
}
