//! Items and users after propagation over a graph.

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::{Batch, Corpus, EdgeDropout, Graph, GraphBuilder, GraphError, ItemVectors, LightGcn, RecommenderError};

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
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self { layers: 2, drop_edges: 0.0, attributes: 0.0 }
    }
}

/// What a model is made around: what items are known by, a graph over users and items where vectors are to be propagated, and how often
/// items are engaged with where rankings are to begin from there.
pub struct Inputs {
    pub(crate) vectors: ItemVectors,
    pub(crate) graph: Option<(Graph, GraphConfig)>,
    pub(crate) popularity: Option<Vec<u32>>,
}

impl Inputs {
    /// With a graph.
    pub fn with_graph(vectors: ItemVectors, graph: Graph, config: GraphConfig) -> Self {
        Self { vectors, graph: Some((graph, config)), popularity: None }
    }

    /// With a prior of rankings, `w ln(1 + n)` of an item that was engaged with `n` times in training ([`Corpus::engagements`]); `w` is
    /// learned. Somebody of whom nothing is known is then ranked for by popularity.
    #[must_use]
    pub fn with_popularity(self, counts: Vec<u32>) -> Self {
        Self { popularity: Some(counts), ..self }
    }
}

impl From<ItemVectors> for Inputs {
    fn from(vectors: ItemVectors) -> Self {
        Self { vectors, graph: None, popularity: None }
    }
}

impl Corpus {
    /// Users and items by the engagements of the training rows, and, as `config` weighs them, items by category and provider.
    ///
    /// # Errors
    /// A weight that is negative or not finite.
    pub fn graph(&self, config: &GraphConfig) -> Result<Graph, GraphError> {
        let items = &self.dataset.items;
        let mut builder = GraphBuilder::new(self.dataset.users.len(), items.len())?;
        let met = |user| self.histories.engaged_items(user, true).into_iter().map(move |item| (user, item));
        builder.interactions((0..self.dataset.users.len() as u32).flat_map(met))?;
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
        builder.build()
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
