//! From interactions and relations to a graph.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::adjacency::{Adjacency, Edge};
use super::{Attribute, Graph, GraphError};

/// Weights are relative to one another; this keeps their sums far from overflow.
const MOST: f32 = 1e6;
/// Name of the relation between users and items.
const INTERACTIONS: &str = "interactions";

/// Collects edges.
///
/// An edge that one relation names more than once counts once, with its largest weight; the weights of several relations between the
/// same two nodes add up. A value that only one item has makes no attribute, since nothing is shared, and an item's relation to
/// itself makes no edge. The order in which edges come does not matter; attributes are numbered by relation, in the order in which
/// relations were first named, then by value.
///
/// ```
/// use paretune_recommender::GraphBuilder;
///
/// let mut builder = GraphBuilder::new(2, 3)?;
/// builder.interactions([(0, 0), (1, 1)])?;
/// builder.relate("bought together", 0.5, [(0, 2)])?;
/// builder.share("brand", 1.0, [(0, "Acme"), (1, "Acme"), (2, "Other")])?;
/// let graph = builder.build()?;
/// assert_eq!(graph.attributes().len(), 1, "nothing else is of the brand `Other`");
/// assert_eq!((graph.nodes(), graph.edges()), (6, 5));
/// # Ok::<(), paretune_recommender::GraphError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    users: usize,
    items: usize,
    /// Name and weight of each relation; the first is that of users to items.
    relations: Vec<(String, f32)>,
    entries: Vec<Entry>,
    /// Items by relation and shared value.
    groups: BTreeMap<(u32, String), BTreeSet<u32>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    low: u32,
    high: u32,
    relation: u32,
    weight: f32,
}

impl Entry {
    fn new(a: u32, b: u32, relation: u32, weight: f32) -> Self {
        Self { low: a.min(b), high: a.max(b), relation, weight }
    }

    fn key(&self) -> (u32, u32, u32, u32) {
        // Weights are positive, and the bits of positive floats are in their order.
        (self.low, self.high, self.relation, self.weight.to_bits())
    }
}

impl GraphBuilder {
    /// A graph of users and items without edges.
    ///
    /// # Errors
    /// More nodes than there are numbers for.
    pub fn new(users: usize, items: usize) -> Result<Self, GraphError> {
        count(users, items, 0)?;
        let relations = vec![(INTERACTIONS.to_owned(), 1.0)];
        Ok(Self { users, items, relations, entries: Vec::new(), groups: BTreeMap::new() })
    }

    /// Adds `(user, item)` pairs of weight 1.
    ///
    /// # Errors
    /// An index past the end.
    pub fn interactions(&mut self, pairs: impl IntoIterator<Item = (u32, u32)>) -> Result<(), GraphError> {
        self.weighted_interactions(pairs.into_iter().map(|(user, item)| (user, item, 1.0)))
    }

    /// Adds `(user, item, weight)` triples; of repeated pairs the largest weight counts.
    ///
    /// # Errors
    /// An index past the end, or a weight that is not above 0 and at most a million.
    pub fn weighted_interactions(
        &mut self,
        triples: impl IntoIterator<Item = (u32, u32, f32)>,
    ) -> Result<(), GraphError> {
        for (edge, (user, item, weight)) in triples.into_iter().enumerate() {
            check_weight(INTERACTIONS, weight)?;
            inside("user", user, self.users, edge, INTERACTIONS)?;
            let item = self.item(item, edge, INTERACTIONS)?;
            self.entries.push(Entry::new(user, item, 0, weight));
        }
        Ok(())
    }

    /// Adds pairs of items that are related: bought together, successors of each other, of one series.
    ///
    /// # Errors
    /// An index past the end, a weight that is not above 0 and at most a million, or a relation of this name with another weight.
    pub fn relate(
        &mut self,
        relation: &str,
        weight: f32,
        pairs: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<(), GraphError> {
        let number = self.relation(relation, weight)?;
        for (edge, (a, b)) in pairs.into_iter().enumerate() {
            let (a, b) = (self.item(a, edge, relation)?, self.item(b, edge, relation)?);
            if a != b {
                self.entries.push(Entry::new(a, b, number, weight));
            }
        }
        Ok(())
    }

    /// Adds what items share: `(item, value)` pairs such as an item and its brand. Each value that two items or more have becomes a
    /// node between them.
    ///
    /// # Errors
    /// As [`Self::relate`].
    pub fn share<V: Into<String>>(
        &mut self,
        relation: &str,
        weight: f32,
        values: impl IntoIterator<Item = (u32, V)>,
    ) -> Result<(), GraphError> {
        let number = self.relation(relation, weight)?;
        for (edge, (item, value)) in values.into_iter().enumerate() {
            let item = self.item(item, edge, relation)?;
            self.groups.entry((number, value.into())).or_default().insert(item);
        }
        Ok(())
    }

    /// The graph.
    ///
    /// # Errors
    /// More nodes than there are numbers for.
    pub fn build(self) -> Result<Graph, GraphError> {
        let Self { users, items, relations, mut entries, groups } = self;
        let mut attributes = Vec::new();
        for ((relation, value), members) in groups {
            if members.len() < 2 {
                continue;
            }
            let node = count(users, items, attributes.len())?;
            let (name, weight) = &relations[relation as usize];
            entries.extend(members.into_iter().map(|item| Entry::new(item, node, relation, *weight)));
            attributes.push(Attribute { relation: name.clone(), value });
        }
        let nodes = count(users, items, attributes.len())? as usize;
        // Entries of one key are the same, so that their order does not depend on threads.
        entries.par_sort_unstable_by_key(Entry::key);
        let mut edges: Vec<Edge> = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let same = |next: &Entry| (next.low, next.high, next.relation) == (entry.low, entry.high, entry.relation);
            if entries.get(place + 1).is_some_and(same) {
                continue; // The next one of this relation weighs at least as much.
            }
            match edges.last_mut() {
                Some(edge) if (edge.low, edge.high) == (entry.low, entry.high) => edge.weight += entry.weight,
                _ => edges.push(Edge { low: entry.low, high: entry.high, weight: entry.weight }),
            }
        }
        let adjacency = Arc::new(Adjacency::new(nodes, &edges));
        Ok(Graph { users, items, attributes: attributes.into(), adjacency })
    }

    /// The number of a relation, new or known.
    pub(super) fn relation(&mut self, name: &str, weight: f32) -> Result<u32, GraphError> {
        check_weight(name, weight)?;
        // The first one is not a relation of items, whatever it is called.
        if let Some(place) = self.relations.iter().skip(1).position(|(known, _)| known == name) {
            let first = self.relations[place + 1].1;
            return match first == weight {
                true => Ok(place as u32 + 1),
                false => Err(GraphError::TwoWeights { name: name.to_owned(), first, second: weight }),
            };
        }
        self.relations.push((name.to_owned(), weight));
        Ok(self.relations.len() as u32 - 1)
    }

    /// The node of an item.
    fn item(&self, item: u32, edge: usize, relation: &str) -> Result<u32, GraphError> {
        inside("item", item, self.items, edge, relation)?;
        Ok(self.users as u32 + item)
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }
}

/// Number of nodes, which is also that of the next one.
fn count(users: usize, items: usize, attributes: usize) -> Result<u32, GraphError> {
    let nodes = users.saturating_add(items).saturating_add(attributes);
    u32::try_from(nodes).map_err(|_| GraphError::TooLarge { nodes, most: u32::MAX as usize })
}

fn inside(kind: &'static str, index: u32, count: usize, edge: usize, relation: &str) -> Result<(), GraphError> {
    match (index as usize) < count {
        true => Ok(()),
        false => Err(GraphError::OutOfRange { kind, index, count, edge, relation: relation.to_owned() }),
    }
}

fn check_weight(relation: &str, weight: f32) -> Result<(), GraphError> {
    match weight > 0.0 && weight <= MOST {
        true => Ok(()),
        false => Err(GraphError::Weight { relation: relation.to_owned(), weight, most: MOST }),
    }
}
