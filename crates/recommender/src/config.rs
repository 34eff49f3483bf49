//! Sizes of the composed model.

use paretune_objectives::{Architecture, Conditioning};
use serde::{Deserialize, Serialize};

use crate::features::FeatureConfig;
use crate::ranking::RankingLoss;
use crate::users::UserConfig;

/// Sizes of everything above the item vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommenderConfig {
    /// Width of the shared representation.
    pub dim: usize,
    /// What makes a user's vector of a history.
    pub user: UserConfig,
    /// Longest history, from [`crate::CorpusConfig::history`].
    pub history: usize,
    /// Number of users in the tables.
    pub users: usize,
    /// Number of items in the tables.
    pub items: usize,
    /// Share of the items whose id training hides, where they are known by something else too.
    pub hide_ids: f64,
    /// The loss of objectives that are rankings.
    pub ranking: RankingLoss,
    /// Whether rankings may bring what a user has met already. Where nobody meets an item twice, the items of a request's history are no
    /// negatives of its and come last in its ranking: a model that compares vectors would have to unlearn that they are what is nearest.
    #[serde(default = "repeats")]
    pub repeats: bool,
    /// Whether requests come with a query, from [`crate::CorpusConfig::search`]: its text goes through the encoder and, by a layer of its
    /// own, into the user's vector.
    #[serde(default)]
    pub search: bool,
    /// What task towers share above the shared representation.
    #[serde(default, skip_serializing_if = "Architecture::is_shared_bottom")]
    pub tasks: Architecture,
    /// Width of the hidden layer of each task tower.
    pub tower: usize,
    /// Dropout in the task towers.
    pub dropout: f64,
    /// Item features, from [`crate::Corpus::item_width`].
    pub item_features: usize,
    /// User and context features, from [`crate::Corpus::user_width`].
    pub user_features: usize,
    /// Features of a past event, from [`crate::Corpus::event_width`].
    pub event_features: usize,
    /// Whether the model takes the preference between its objectives as an input.
    #[serde(default, skip_serializing_if = "Conditioning::is_none")]
    pub conditioning: Conditioning,
    /// How features of columns enter, of a model that has any ([`Inputs::with_features`](crate::Inputs::with_features)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureConfig>,
}

fn repeats() -> bool {
    true
}
