//! What can go wrong, and how to mend it.

use std::path::PathBuf;

/// An error of the recommender.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecommenderError {
    /// The tables could not be used.
    #[error(transparent)]
    Data(#[from] paretune_data::DataError),
    /// Text or model files could not be used.
    #[error(transparent)]
    Features(#[from] paretune_features::FeatureError),
    /// The text encoder failed.
    #[error(transparent)]
    Encoder(#[from] paretune_encoder::EncoderError),
    /// The objectives do not fit.
    #[error(transparent)]
    Objectives(#[from] paretune_objectives::ObjectiveError),
    /// A ranking loss does not fit what it was shown.
    #[error(transparent)]
    Ranking(#[from] crate::RankingError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A model file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A saved model is not what this version writes.
    #[error("{path}: {problem}; train again or point at another run", path = path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A size that does not fit the others.
    #[error("model.{field} = {value} {problem}")]
    Shape {
        /// Field of the configuration.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights of unlike models cannot be averaged.
    #[error(
        "`{name}` is not the same in all models: only models of one configuration, trained on one data set, can be averaged"
    )]
    Unlike {
        /// The parameter that differs, or that a model lacks.
        name: String,
    },
    /// Users are to be nodes of a graph, and there is none.
    #[error("user.kind = \"graph\" needs a graph: set model.graph, for example `graph = {{ layers = 2 }}`")]
    NeedsGraph,
    /// A loss that is added in training has nothing to work on.
    #[error("model.{table} needs {needs}, and here is {found}; leave [model.{table}] out, or change that")]
    Auxiliary {
        /// Its table in the configuration.
        table: &'static str,
        /// What it works on.
        needs: &'static str,
        /// What there is instead.
        found: String,
    },
    /// A prior of rankings, and no ranking.
    #[error(
        "model.popularity adds to the scores of rankings, and no objective is one: set an objective's kind to \"ranking\", or leave it out"
    )]
    NeedsRanking,
    /// A goal of lists, and nothing of the catalogue that it could look at.
    #[error("an objective is a goal of lists: say what it looks at with Recommender::with_list_facts before training")]
    NeedsListFacts,
    /// Exposure is to be fair to groups that are not known.
    #[error(
        "data set \"{dataset}\": a goal of exposure by {column} needs the items' column `{column}`, which is absent, or empty where it \
         counts; name other groups, or another target"
    )]
    NoGroups {
        /// The data set.
        dataset: String,
        /// The column of its items.
        column: &'static str,
    },
    /// Diversity, and nothing that says how unlike items are.
    #[error(
        "data set \"{dataset}\": diversity needs to know how unlike items are: by texts (model.items = \"text\" or \"hybrid\"), by \
         vectors (model.vectors), or by the items' column `category`"
    )]
    NoLikeness {
        /// The data set.
        dataset: String,
    },
    /// Pairs that no sample shows have no features of user and item together.
    #[error(
        "a goal of lists that a task tower ranks cannot look at features that cross user and item; give it a ranking \
         (kind = \"ranking\"), or leave those features out"
    )]
    ListsOfJoint,
    /// The graph could not be built or used.
    #[error(transparent)]
    Graph(#[from] crate::GraphError),
    /// Vectors made elsewhere do not fit.
    #[error("model.vectors `{name}`: {problem}")]
    Vectors {
        /// Their name.
        name: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// Items are to be known by vectors made elsewhere, and there are none.
    #[error("items = \"vectors\" needs vectors: name their file in [[model.vectors]]")]
    NeedsVectors,
    /// Gates weigh what an item is known by against something else.
    #[error(
        "model.fusion = \"gate\" has nothing to weigh: items are known by one thing only; add items = \"hybrid\" or \
         [[model.vectors]], or leave model.fusion out"
    )]
    NothingToGate,
    /// A model without gradients could not be fitted.
    #[error(transparent)]
    Classic(#[from] crate::ClassicError),
    /// A fusion does not fit what it was shown.
    #[error(transparent)]
    Fusion(#[from] crate::FusionError),
    /// Features are set, and there are none.
    #[error("model.features is set, and there are no features: describe some with [[features]], or leave it out")]
    NeedsFeatures,
    /// A batch whose categories are not those of the model's features.
    #[error("a batch has {found} categories, expected {expected}: it was made with other features than the model's")]
    Categories {
        /// Number of indices.
        found: usize,
        /// Number of indices that its requests, or samples, have by the model's features.
        expected: usize,
    },
    /// A number out of its range.
    #[error("model.{field} = {value} {rule}")]
    Setting {
        /// Field of the configuration.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// New items cannot be scored by a model that knows ids only.
    #[error("this model knows items by id only and cannot score a new one; train with items = \"text\"")]
    NeedsText,
    /// Queries are texts, and there is nothing that reads them.
    #[error("model.search needs a text encoder; train with items = \"text\" or \"hybrid\"")]
    NeedsEncoder,
    /// A model that reads no texts has nothing to say of other items, and one that reads none can take nothing.
    #[error(
        "{path}: only a model that reads texts can start from another one that does (items = \"text\" or \"hybrid\"): ids mean other \
         items elsewhere",
        path = path.display()
    )]
    NoStart {
        /// The saved model.
        path: PathBuf,
    },
    /// An item or user that is not in the tables.
    #[error("no {kind} `{id}` in this data set; it has {known} of them, for example {examples}")]
    Unknown {
        /// `user` or `item`.
        kind: &'static str,
        /// The id that was asked for.
        id: String,
        /// How many there are.
        known: usize,
        /// A few of them.
        examples: String,
    },
}
