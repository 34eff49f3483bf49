//! Users and items as a graph: who dealt with what, and what is related to what.
//!
//! ```text
//! training interactions ─┐
//! item ── item relations ├─▶ GraphBuilder ─▶ Graph: Â = D^-½ A D^-½ ─▶ LightGcn ─▶ users [M, d], items [N, d]
//! item ── attributes     ┘                                            (propagate: mean of Â⁰x … Âᴸx)
//! ```
//!
//! Nodes are numbered in one space: users, then items, then attributes. Groups of items that share something (a brand, a category)
//! become a node of their own: as a clique, a category of ten thousand items would make fifty million edges.
//!
//! Build the graph from *training* interactions only: an edge of the test part tells the model what it is asked for.

mod adjacency;
mod build;
mod composed;
mod dropout;
mod error;
mod light_gcn;
mod propagate;
mod relations;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use adjacency::Adjacency;
pub use build::GraphBuilder;
pub use dropout::EdgeDropout;
pub use error::GraphError;
pub use light_gcn::{LightGcn, NodeVectors};
pub use propagate::propagate;
pub use relations::{Added, Missing, Relation, Tail};

/// Something that several items share: a node between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// Name of the relation, such as `brand`.
    pub relation: String,
    /// What is shared.
    pub value: String,
}

/// An undirected graph of users, items and attributes, normalised by degrees: `Â = D^-½ A D^-½`. Cheap to clone.
///
/// ```
/// use paretune_recommender::Graph;
///
/// // Two users, three items; nobody has dealt with the last one.
/// let graph = Graph::interactions(2, 3, [(0, 0), (0, 1), (1, 1), (1, 1)])?;
/// assert_eq!((graph.nodes(), graph.edges()), (5, 3));
/// // Item 1 is node 3: 1/√(2·2) to user 0, 1/√(1·2) to user 1.
/// let row: Vec<(u32, f32)> = graph.row(3).collect();
/// assert_eq!(row, [(0, 0.5), (1, 0.5f32.sqrt())]);
/// # Ok::<(), paretune_recommender::GraphError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Graph {
    users: usize,
    items: usize,
    attributes: Arc<[Attribute]>,
    adjacency: Arc<Adjacency>,
}

impl Graph {
    /// The graph of `(user, item)` interactions, each pair counted once; [`GraphBuilder`] for weights and relations.
    ///
    /// # Errors
    /// An index past the end, or more nodes than there are numbers for.
    pub fn interactions(
        users: usize,
        items: usize,
        pairs: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<Self, GraphError> {
        let mut builder = GraphBuilder::new(users, items)?;
        builder.interactions(pairs)?;
        builder.build()
    }

    /// Number of users: nodes `0..users`.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Number of items: nodes `users..users + items`.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The attributes, in the order of their nodes `users + items..`.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.adjacency.nodes()
    }

    /// Number of undirected edges, duplicates merged.
    pub fn edges(&self) -> usize {
        self.adjacency.edges()
    }

    /// `[nodes]`: sums of the weights of each node's edges, `D_ii`.
    pub fn degrees(&self) -> &[f64] {
        self.adjacency.degrees()
    }

    /// The entries `(j, Â_ij)` of row `node`, ascending; none for a node past the end. A node without edges has itself, with 1.
    pub fn row(&self, node: usize) -> impl Iterator<Item = (u32, f32)> {
        let places = if node < self.nodes() { self.adjacency.row(node) } else { 0..0 };
        let neighbours = self.adjacency.neighbours()[places.clone()].iter().copied();
        neighbours.zip(self.adjacency.coefficients()[places].iter().copied())
    }

    /// This graph without some edges, for one training step.
    ///
    /// # Errors
    /// A probability outside of `[0, 1)`.
    pub fn thinned(&self, dropout: EdgeDropout) -> Result<Self, GraphError> {
        dropout.check()?;
        if dropout.probability == 0.0 {
            return Ok(self.clone());
        }
        let adjacency = Arc::new(self.adjacency.thinned(dropout.probability, dropout.seed));
        Ok(Self { adjacency, ..self.clone() })
    }
}
