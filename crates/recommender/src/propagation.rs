//! Items and users after propagation over a graph.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use paretune_data::{Related, RelationFile, Relations, Transforms};
use serde::{Deserialize, Serialize};

use crate::classic::companions;
use crate::{
    Batch, Combine, Corpus, EdgeDropout, GivenVectors, Graph, GraphBuilder, Interactions, ItemVectors, LightGcn,
    Recommender, RecommenderError,
};

/// Name of the relation between items that the same users engaged with.
const CO_ENGAGED: &str = "co-engaged";

/// The graph of [`Corpus::graph`], and how it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphConfig {
    /// Steps of propagation; a vector becomes the mean of what it is after none, one, … of them.
    pub layers: usize,
    /// Share of the edges that a training step leaves out.
    pub drop_edges: f64,
    /// Weight of the edges between an item and its category, its provider; 0 leaves them out. An interaction weighs 1.
    pub attributes: f32,
    /// Edges between an item and so many others that share the most users with it in training; 0 = none.
    pub co_engaged: usize,
    /// Weight of those edges.
    pub co_engaged_weight: f32,
    /// Further relations between items, or from items to what they share, from files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<RelationFile>,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self {
            layers: 2,
            drop_edges: 0.0,
            attributes: 0.0,
            co_engaged: 0,
            co_engaged_weight: 0.5,
            relations: Vec::new(),
        }
    }
}

/// What a model is made around: what items are known by, a graph over users and items where vectors are to be propagated, how often
/// items are engaged with where rankings are to begin from there, and features where there are any.
pub struct Inputs {
    pub(crate) vectors: ItemVectors,
    /// Beside them, vectors that were made elsewhere.
    pub(crate) given: Vec<GivenVectors>,
    /// How all of that becomes one vector.
    pub(crate) combine: Combine,
    pub(crate) graph: Option<(Graph, GraphConfig)>,
    pub(crate) popularity: Option<Vec<u32>>,
    pub(crate) features: Option<Arc<Transforms>>,
}

impl Inputs {
    /// With a graph.
    pub fn with_graph(vectors: ItemVectors, graph: Graph, config: GraphConfig) -> Self {
        Self { graph: Some((graph, config)), ..vectors.into() }
    }

    /// With vectors that were made elsewhere (or none), and how all that an item is known by becomes one vector.
    #[must_use]
    pub fn with_vectors(self, given: Vec<GivenVectors>, combine: Combine) -> Self {
        Self { given, combine, ..self }
    }

    /// With a prior of rankings, `w ln(1 + n)` of an item that was engaged with `n` times in training
    /// ([`Summary::engagement`](crate::Summary::engagement)); `w` is learned. Somebody of whom nothing is known is then ranked for by popularity.
    #[must_use]
    pub fn with_popularity(self, counts: Vec<u32>) -> Self {
        Self { popularity: Some(counts), ..self }
    }

    /// With fitted features of users, items and moments: those of the corpus that makes the batches.
    #[must_use]
    pub fn with_features(self, transforms: Option<Arc<Transforms>>) -> Self {
        Self { features: transforms, ..self }
    }
}

impl From<ItemVectors> for Inputs {
    fn from(vectors: ItemVectors) -> Self {
        Self { vectors, given: Vec::new(), combine: Combine::Sum, graph: None, popularity: None, features: None }
    }
}

impl Corpus {
    /// Users and items by the engagements of the training rows, and, as `config` weighs them, items by category and provider, by the
    /// users they share, and by the relations of files.
    ///
    /// # Errors
    /// A weight that is negative or not finite, and what [`Self::relations`] says.
    pub fn graph(&self, config: &GraphConfig) -> Result<Graph, RecommenderError> {
        self.graph_with(config, &self.relations(config)?)
    }

    /// Reads the files of relations that `config` names.
    ///
    /// # Errors
    /// What [`RelationFile::read`] says of each.
    pub fn relations(&self, config: &GraphConfig) -> Result<Vec<Relations>, RecommenderError> {
        let ids = &self.dataset.items.ids;
        config.relations.iter().map(|file| Ok(file.read(ids)?)).collect()
    }

    /// [`Self::graph`] with the relations that [`Self::relations`] read for the same configuration.
    ///
    /// # Errors
    /// A weight that is negative or not finite.
    pub fn graph_with(&self, config: &GraphConfig, relations: &[Relations]) -> Result<Graph, RecommenderError> {
        let items = &self.dataset.items;
        let users = self.dataset.users.len();
        let mut builder = GraphBuilder::new(users, items.len())?;
        let met = |user| self.histories.engaged_items(user, true).into_iter().map(move |item| (user, item));
        builder.interactions((0..users as u32).flat_map(met))?;
        if config.attributes != 0.0 {
            for (name, column) in [("category", &items.category), ("provider", &items.provider)] {
                let values = column.iter().flat_map(|column| (0u32..).zip(column));
                builder.share(
                    name,
                    config.attributes,
                    values.filter_map(|(item, value)| Some((item, value.clone()?))),
                )?;
            }
        }
        for (file, relations) in config.relations.iter().zip(relations) {
            match &relations.pairs {
                Related::Items(pairs) => builder.relate(&file.name, file.weight, pairs.iter().copied())?,
                Related::Attributes(names) => {
                    builder.share(&file.name, file.weight, names.iter().map(|(item, name)| (*item, name.as_str())))?;
                }
            }
        }
        if config.co_engaged > 0 {
            let engaged = (0..users as u32).map(|user| self.histories.engaged_items(user, true)).collect();
            let pairs = Interactions::new(engaged, items.len()).map(|log| companions(&log, config.co_engaged))?;
            builder.relate(CO_ENGAGED, config.co_engaged_weight, pairs)?;
        }
        Ok(builder.build()?)
    }
}

impl Recommender {
    /// Whether vectors are passed along the edges of a graph, which holds the whole log.
    pub fn has_graph(&self) -> bool {
        self.propagation.is_some()
    }
}

/// Items and users of a model with a graph.
pub(crate) struct Propagation {
    network: LightGcn,
    drop_edges: f64,
}

impl Propagation {
    pub(crate) fn new(
        (graph, config): (Graph, GraphConfig),
        dim: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        Ok(Self { network: LightGcn::new(graph, dim, config.layers, seed, device)?, drop_edges: config.drop_edges })
    }

    /// Nodes from the vectors of all items `[items, dim]`.
    pub(crate) fn forward(&self, items: &Tensor, dropout: Option<u64>) -> Result<crate::NodeVectors, RecommenderError> {
        let dropout = dropout.filter(|_| self.drop_edges > 0.0);
        let dropout = dropout.map(|seed| EdgeDropout { probability: self.drop_edges, seed });
        Ok(self.network.forward(items, dropout)?)
    }

    /// The users of a batch `[requests, dim]`: their nodes, and, of who has none or no edge, what their histories say.
    pub(crate) fn users(&self, batch: &Batch, nodes: &Tensor, items: &Tensor) -> Result<Tensor, RecommenderError> {
        let graph = self.network.graph();
        let in_graph = |user: &Option<u32>| {
            let user = user.filter(|user| (*user as usize) < graph.users());
            user.filter(|user| graph.row(*user as usize).any(|(other, _)| other != *user))
        };
        let known: Vec<Option<u32>> = batch.users.iter().map(in_graph).collect();
        if known.iter().all(Option::is_some) {
            let ids: Vec<u32> = known.into_iter().flatten().collect();
            return Ok(nodes.index_select(&Tensor::new(ids, nodes.device())?, 0)?);
        }
        let past = |rows: &std::ops::Range<u32>| -> Vec<u32> {
            rows.clone().map(|row| batch.items[batch.histories.items[row as usize] as usize]).collect()
        };
        let histories: Vec<Vec<u32>> = batch.histories.seen.iter().map(past).collect();
        let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
        let newcomers = self.network.newcomers(&self.network.messages(items)?, &histories)?;
        // Rows of both, of which each request takes one.
        let both = Tensor::cat(&[nodes, &newcomers], 0)?;
        let users = nodes.dim(0)? as u32;
        let rows: Vec<u32> = (0u32..).zip(&known).map(|(request, user)| user.unwrap_or(users + request)).collect();
        Ok(both.index_select(&Tensor::new(rows, nodes.device())?, 0)?)
    }

    pub(crate) fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        self.network.parameters(prefix)
    }
}
